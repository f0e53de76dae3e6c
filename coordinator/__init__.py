"""The consortium's coordinator: invites sites, carries documents, launches jobs, merges answers."""

import foundation  # noqa: F401  (before gRPC is imported)
