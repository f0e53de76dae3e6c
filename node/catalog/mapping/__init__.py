"""A site's mapping to a project's dictionary: its file, its check and the table that it makes."""
