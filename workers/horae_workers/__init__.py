"""The roles of an engine as running parts: engine, executor, views."""
