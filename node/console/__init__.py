"""The steward's page: what is held, what was asked, what left. It shows and changes nothing.

It runs in a process of its own, beside ``serve``, and shows neither patients nor pseudonyms.
"""
