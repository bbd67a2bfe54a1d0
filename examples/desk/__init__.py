"""A small trading desk; see `app.py`."""
