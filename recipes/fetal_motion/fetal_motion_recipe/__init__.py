"""Slice-to-volume correction of fetal motion in MR, learned across hospitals: a Flower app."""
