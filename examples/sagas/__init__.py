"""Worked examples of work that spans events and time."""
