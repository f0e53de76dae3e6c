"""What every party's program stands on: files, settings, transport identity, commands, pages.

It knows nothing of questions, data or gates; it imports ``contract`` and nothing else of ours.
"""
