"""Classification of images, trained across hospitals: a Flower app."""
