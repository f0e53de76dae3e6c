"""Time to an event from one table, trained across hospitals: a Flower app."""
