"""What the hospital holds, what it froze, and what it was asked: the node's database."""
