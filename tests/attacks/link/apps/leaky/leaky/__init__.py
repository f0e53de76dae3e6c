"""A Flower app that looks like any other."""
