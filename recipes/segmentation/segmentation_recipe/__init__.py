"""Segmentation of images and volumes, trained across hospitals: a Flower app."""
