"""The operator's page: which sites are there, and how far each job is. It changes nothing.

It runs in a process of its own, beside ``serve``, and knows of the sites what they told.
"""
