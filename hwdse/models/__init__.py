"""One physical effect a file; pure functions that meet only in system.py."""
