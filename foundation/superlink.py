"""What travels through a Flower SuperLink: one message of the link, and its tensors.

A Flower message holds a ``ConfigRecord`` with the message's bytes and those of its tensors. Where
these are many, they are one array of an ``ArrayRecord`` instead, which Flower sends in pieces. Its
cost is by object, and each is a call over HTTP, or several.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from contract.errors import DocumentError

if TYPE_CHECKING:
    from flwr.app import ArrayRecord, RecordDict

VERSION = "1.41.0"
"""The version of Flower whose internals both sides are written for."""
OFFLINE = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
"""What keeps Flower's programs from calling home."""
MAX_INLINE_BYTES = 4 * 2**20
RECORD, TENSORS = "wardgate", "tensors"
_MESSAGE, _BLOB, _STYPE = "message", "blob", "wardgate.safetensors"


def check_version() -> None:
    """Raise ``DocumentError`` under another version of Flower than the one this is written for."""
    if (found := version("flwr")) != VERSION:
        raise DocumentError(f"Engine superlink needs flwr {VERSION}; this is {found}.")


def pack(message: bytes, tensors: bytes = b"") -> RecordDict:
    """Return a message and its tensors as Flower's records."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    record = ConfigRecord({_MESSAGE: message})
    content = RecordDict({RECORD: record})
    if len(tensors) <= MAX_INLINE_BYTES:
        record[_BLOB] = tensors
    else:
        blob = Array("uint8", (len(tensors),), _STYPE, tensors)
        content[TENSORS] = ArrayRecord({_BLOB: blob})
    return content


def with_tensors(message: bytes, tensors: ArrayRecord) -> RecordDict:
    """As ``pack``, with the record of large tensors that was made before."""
    from flwr.app import ConfigRecord, RecordDict

    return RecordDict({RECORD: ConfigRecord({_MESSAGE: message}), TENSORS: tensors})


def unpack(content: RecordDict) -> tuple[bytes, bytes]:
    """Return what ``pack`` packed; ``DocumentError`` when it is something else."""
    from flwr.app import ArrayRecord, ConfigRecord

    record, group = content.get(RECORD), content.get(TENSORS)
    if isinstance(record, ConfigRecord) and set(content) <= {RECORD, TENSORS}:
        message, tensors = record.get(_MESSAGE), record.get(_BLOB)
        if isinstance(group, ArrayRecord) and tensors is None and _BLOB in group:
            tensors = bytes(group[_BLOB].data)
        elif group is not None:
            tensors = None
        if isinstance(message, bytes) and isinstance(tensors, bytes):
            return message, tensors
    raise DocumentError("A message over the SuperLink is none of Wardgate's.")
