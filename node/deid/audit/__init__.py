"""A search of what was written for what identifies, as far as that is still at hand."""
