"""A hospital's node: keeps images and records on-site and answers through its own gate."""

import foundation  # noqa: F401  (before gRPC is imported)
