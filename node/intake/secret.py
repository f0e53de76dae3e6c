"""The secret under which a node makes pseudonyms: its key file, or a key in a PKCS#11 token."""

from __future__ import annotations

from node.deid.pseudonyms import Pseudonyms, load_key
from node.deid.tokens import AskPin, open_pseudonyms
from node.home import NodeHome


def node_pseudonyms(
    home: NodeHome, key: str = "", *, create: bool, ask: AskPin | None = None
) -> Pseudonyms:
    """Return the node's pseudonyms: under ``key`` (a file, a pkcs11: URI), or its own key file.

    ``create`` lets its own be made. ``NotFound`` and ``StorageError`` as the key's readers say.
    """
    if key:
        return open_pseudonyms(key, ask)
    return Pseudonyms(load_key(home.pseudonym_key, create=create))
