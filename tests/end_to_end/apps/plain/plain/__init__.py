"""A Flower app of the first kind that one writes."""
