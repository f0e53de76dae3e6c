"""Training over a stock Flower SuperLink: the coordinator's side."""
