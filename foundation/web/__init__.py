"""What the consoles share: login, sessions, page base, languages, and the way they are served.

Pages are rendered here and contain no script. Importing this package imports no web framework;
``pages``, ``guard`` and ``server`` do, and only a console's own process imports those.
"""
