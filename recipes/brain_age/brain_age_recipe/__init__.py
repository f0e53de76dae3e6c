"""Age from an MR of the head, trained across hospitals: a Flower app."""
