"""The coordinator's half of each kind of work."""
