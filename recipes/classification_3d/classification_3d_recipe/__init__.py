"""Classification of CT volumes, trained across hospitals: a Flower app."""
