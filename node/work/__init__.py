"""The node's half of each kind of work, behind the gate."""
