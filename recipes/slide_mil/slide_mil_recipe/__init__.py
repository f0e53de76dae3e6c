"""Whole-slide classification from slides' labels alone, across hospitals: a Flower app."""
