"""Training over a stock Flower SuperLink: the node's SuperNode, behind the gate."""
