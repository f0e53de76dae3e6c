"""The hospital's own lists: names and numbers to be found in every file, whoever's it is.

A TOML file of lists of text: ``persons`` (staff), ``institutions`` (and wards, addresses),
``numbers`` (telephones and the like). It names people, so it is kept like a secret.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from contract.errors import ConfigurationError
from foundation.files import read_bounded
from node.deid.identifiers import Known

MAX_LIST_BYTES = 16 * 2**20
_KEYS = ("persons", "institutions", "numbers")

Lists = Known
"""What the lists hold."""


def load_lists(path: Path) -> Known:
    """Return what the file at ``path`` lists; ``ConfigurationError`` if it is none of these."""
    try:
        values = tomllib.loads(read_bounded(path, MAX_LIST_BYTES).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise ConfigurationError(f"{path} is not TOML in UTF-8.") from None
    for key, value in values.items():
        if key not in _KEYS:
            raise ConfigurationError(f"{path} has a key that is none of {', '.join(_KEYS)}.")
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ConfigurationError(f"{key} in {path} is not a list of texts.")
    return Known(
        persons=frozenset(values.get("persons", ())),
        phrases=frozenset(values.get("institutions", ())),
        numbers=frozenset(values.get("numbers", ())),
    )
