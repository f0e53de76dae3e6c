"""A Flower app for the tests; it knows nothing of Wardgate."""
