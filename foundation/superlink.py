"""What travels through a Flower SuperLink: one message of the link, and its tensors.

A Flower message holds a ``ConfigRecord`` with the message's bytes and, if there are tensors, an
``ArrayRecord`` with the whole blob as one array, since Flower's cost is by object.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from contract.errors import DocumentError

if TYPE_CHECKING:
    from flwr.app import RecordDict

VERSION = "1.41.0"
"""The version of Flower whose internals both sides are written for."""
OFFLINE = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
"""What keeps Flower's programs from calling home."""
RECORD, TENSORS = "wardgate", "tensors"
_MESSAGE, _BLOB, _STYPE = "message", "blob", "wardgate.safetensors"


def check_version() -> None:
    """Raise ``DocumentError`` under another version of Flower than the one this is written for."""
    if (found := version("flwr")) != VERSION:
        raise DocumentError(f"Engine superlink needs flwr {VERSION}; this is {found}.")


def pack(message: bytes, tensors: bytes = b"") -> RecordDict:
    """Return a message and its tensors as Flower's records."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    content = RecordDict({RECORD: ConfigRecord({_MESSAGE: message})})
    if tensors:
        blob = Array("uint8", (len(tensors),), _STYPE, tensors)
        content[TENSORS] = ArrayRecord({_BLOB: blob})
    return content


def unpack(content: RecordDict) -> tuple[bytes, bytes]:
    """Return what ``pack`` packed; ``DocumentError`` when it is something else."""
    from flwr.app import ArrayRecord, ConfigRecord

    record, group = content.get(RECORD), content.get(TENSORS)
    message = record.get(_MESSAGE) if isinstance(record, ConfigRecord) else None
    blob = group.get(_BLOB) if isinstance(group, ArrayRecord) else None
    wanted = {RECORD} if group is None else {RECORD, TENSORS}
    if (
        not isinstance(message, bytes)
        or set(content) != wanted
        or (group is None) != (blob is None)
    ):
        raise DocumentError("A message over the SuperLink is none of Wardgate's.")
    return message, b"" if blob is None else bytes(blob.data)
