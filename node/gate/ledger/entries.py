"""An entry of the ledger and its line: how it is written, read, and checked against the chain."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from contract.errors import LedgerError

FILE = "ledger.jsonl"
GENESIS = "0" * 64
MAX_LINE_BYTES = 1024 * 1024
READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Head:
    """The newest entry: its sequence number (-1 for an empty ledger) and its hash."""

    sequence: int
    hash: str


@dataclass(frozen=True)
class Entry:
    """One entry as read back."""

    sequence: int
    time: str
    kind: str
    body: Mapping[str, Any]
    previous: str
    hash: str


def parse_line(line: bytes, expected: int, previous: str) -> Entry:
    """Return the entry of one line; ``LedgerError`` unless it continues the chain."""
    value = read_line(line, expected, previous)
    try:
        return Entry(
            sequence=expected,
            time=value["time"],
            kind=value["kind"],
            body=value["body"],
            previous=previous,
            hash=hashlib.sha256(line).hexdigest(),
        )
    except KeyError:
        raise LedgerError(f"The ledger's entry {expected} is not readable.") from None


def read_line(line: bytes, expected: int, previous: str) -> dict[str, Any]:
    """Return one line's object as it is; ``LedgerError`` unless it continues the chain."""
    try:
        value = _object(line)
        place = value["sequence"], value["previous"]
    except (ValueError, KeyError, TypeError):
        raise LedgerError(f"The ledger's entry {expected} is not readable.") from None
    if place != (expected, previous):
        raise LedgerError(f"The ledger's chain breaks at entry {expected}.")
    found: dict[str, Any] = value
    return found


def _object(line: bytes) -> Any:
    try:
        return from_json(line)
    except ValueError:
        # The fast parser refuses a lone surrogate, which ``json`` writes as it is.
        return json.loads(line)


def format_line(
    sequence: int, time: datetime, kind: str, body: Mapping[str, Any], previous: str
) -> bytes:
    """Return an entry's line without its newline."""
    return finish_line(sequence, format_content(time, kind, body), previous)


def format_content(time: datetime, kind: str, body: Mapping[str, Any]) -> bytes:
    """Return what of an entry's line doesn't depend on its place. ``LedgerError`` if too long."""
    value = {"time": time.isoformat(), "kind": kind, "body": dict(body)}
    content = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    if len(content) > MAX_LINE_BYTES - 128:
        raise LedgerError("A ledger entry is too long.")
    return content


def finish_line(sequence: int, content: bytes, previous: str) -> bytes:
    """Return the line with a content's place in the chain."""
    return b'{"sequence":%d,%s,"previous":"%s"}' % (sequence, content[1:-1], previous.encode())


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield every whole line without its newline.

    A last line without its newline was never acted on and is passed over.
    """
    if not path.exists():
        return
    with path.open("rb", buffering=READ_BYTES) as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield line[:-1]


def read_entries(folder: Path) -> Iterator[Entry]:
    """Yield every entry, checking the chain; ``LedgerError`` where it breaks."""
    previous = GENESIS
    for number, line in enumerate(read_lines(folder / FILE)):
        entry = parse_line(line, number, previous)
        previous = entry.hash
        yield entry
