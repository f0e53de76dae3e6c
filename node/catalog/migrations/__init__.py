"""The catalogue's revisions, for Alembic."""
