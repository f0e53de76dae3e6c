"""Outlines drawn by a model for a hospital's own readers, left there as drafts: a Flower app."""
