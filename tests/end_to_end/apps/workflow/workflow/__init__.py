"""A Flower app whose server starts a workflow."""
