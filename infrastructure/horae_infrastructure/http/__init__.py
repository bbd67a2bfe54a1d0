"""HTTP calls that leave this process (the extra `http`)."""
