"""The ledger: an append-only, hash-chained file of every decision and every byte that left.

Each line of ``ledger.jsonl`` is one entry: a JSON object with its sequence number, time, kind, body
and ``previous``, the SHA-256 of the line before it. Changing, dropping or reordering a line breaks
every later one. The newest line's hash is the *head*; it goes into every receipt and to the
coordinator, which tells it back at each connection.

Over the lines is a Merkle tree (RFC 6962; a line's bytes are its leaf), whose root goes into signed
heads that the other sites countersign: a ledger that was cut, forked or restored from a backup is
seen by whoever holds a later head.

An entry is durable (fsync) when ``append`` returns, and what it records happens after that. A line
that a crash left half-written was never acted on; it is dropped at the next start.
"""

from node.gate.ledger.book import Ledger, Standing
from node.gate.ledger.entries import (
    GENESIS,
    MAX_LINE_BYTES,
    Entry,
    Head,
    format_line,
    parse_line,
    read_entries,
)
from node.gate.ledger.verification import Report, examine, verify

__all__ = [
    "GENESIS",
    "MAX_LINE_BYTES",
    "Entry",
    "Head",
    "Ledger",
    "Report",
    "Standing",
    "examine",
    "format_line",
    "parse_line",
    "read_entries",
    "verify",
]
