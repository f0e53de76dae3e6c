"""The commands of ``wardgate-node``, a module for each."""
