"""Ultrasound registered to CT or MR and fused with it, across hospitals: a Flower app."""
