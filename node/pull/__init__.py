"""Fetching from the hospital's own archive: asked politely, resumed exactly, kept sealed."""
