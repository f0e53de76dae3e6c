"""Revisions of the catalogue, oldest first."""
