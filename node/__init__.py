"""A hospital's node: keeps images and records on-site and answers through its own gate."""
