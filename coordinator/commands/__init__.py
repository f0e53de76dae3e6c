"""The coordinator's commands, a module for each noun."""
