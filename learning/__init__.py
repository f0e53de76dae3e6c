"""What recipes share: strategies, mods, training loops, reading a release. Imports nothing of ours.

It works under stock Flower too, after ``pip install wardgate[recipes]``. Flower, PyTorch and MONAI
are imported by the modules that need them, never here.
"""
