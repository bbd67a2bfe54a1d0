"""Read models as functions from events to writes, their runner and their queries."""
