"""De-identified copies of folder trees, for use without a federation."""
