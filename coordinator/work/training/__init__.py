"""The coordinator's half of training: the ServerApp's process, its Grid, and its journal."""
