"""A hospital's node: keeps images and records on-site and answers through its own gate."""

import os

import foundation  # noqa: F401  (before gRPC is imported)

# Products here are small and several questions are worked on at once: OpenBLAS's own threads would
# wait for one another, spinning. It reads this when NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
