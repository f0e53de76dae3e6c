"""Binary classification of one table, trained across hospitals: a Flower app."""
