"""What a notice says: how much waits, of which consortium, project and kind. Nothing else.

Guarantee: a notice is made of counts and of names that the consortium's documents hold, so it says
nothing about patients, nor what was asked, nor who asked. It leaves by the hospital's own mail
server, but mail is read by others.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from email.message import EmailMessage

from contract.documents import printable
from node.catalog.inbox import InboxRow

Waiting = Counter[tuple[str, str, str, str]]
"""How many, by what (job or output), consortium, project and kind of work."""


def count(rows: Iterable[InboxRow]) -> Waiting:
    """Return how much waits."""
    return Counter((r.what, r.consortium, r.project, r.kind) for r in rows)


def lines(waiting: Waiting) -> list[str]:
    """Return the notice, a line for each kind."""
    said = []
    for (what, consortium, project, kind), number in sorted(waiting.items()):
        noun = {"job": "job", "output": "answer"}[what]
        verb = "waits" if number == 1 else "wait"
        plural = "" if number == 1 else "s"
        said.append(
            printable(f"{number} {noun}{plural} of {kind} {verb}: {consortium}, project {project}")
        )
    return said


def mail(waiting: Waiting, sender: str, to: Iterable[str], now: datetime) -> EmailMessage:
    """Return the notice as an e-mail."""
    message = EmailMessage()
    number = sum(waiting.values())
    message["Subject"] = f"Wardgate: {number} wait{'s' if number == 1 else ''} for a steward"
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Date"] = now
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834
    message.set_content("\n".join([*lines(waiting), "", "wardgate-node inbox list", ""]))
    return message


def body(waiting: Waiting, now: datetime) -> bytes:
    """Return the notice as a webhook's JSON."""
    return json.dumps(
        {
            "time": now.isoformat(timespec="seconds"),
            "waiting": [
                {
                    "what": what,
                    "consortium": consortium,
                    "project": project,
                    "kind": kind,
                    "number": number,
                }
                for (what, consortium, project, kind), number in sorted(waiting.items())
            ],
        }
    ).encode()


def signature(secret: bytes, data: bytes) -> str:
    """Return the header ``Wardgate-Signature`` over a body: HMAC-SHA256 (RFC 2104)."""
    return "sha256=" + hmac.new(secret, data, hashlib.sha256).hexdigest()
