"""Telling a steward, by e-mail or webhook, that something waits; never what it is about."""
