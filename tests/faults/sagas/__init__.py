"""The worked examples under fire: every one of their waits is hit by a kill."""
