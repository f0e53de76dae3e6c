"""A recipe that learns nothing."""
