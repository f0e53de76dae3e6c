"""The consortium's coordinator: invites sites, carries documents, launches jobs, merges answers."""
