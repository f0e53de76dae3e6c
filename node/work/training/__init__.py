"""The hospital's half of training: approved recipes, and the sandbox in which they run."""
