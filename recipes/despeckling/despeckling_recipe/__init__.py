"""Ultrasound despeckling learnt from noisy images, trained across hospitals: a Flower app."""
