"""What waits for the steward: jobs and outputs, signed decisions on them, previews."""
