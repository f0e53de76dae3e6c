"""What hospitals, coordinator and researchers must agree on, and nothing else."""
