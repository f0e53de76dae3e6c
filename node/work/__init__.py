"""What a node does behind its gate: statistics, training."""
