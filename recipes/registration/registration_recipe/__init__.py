"""Deformable registration learned without labels, across hospitals: a Flower app."""
