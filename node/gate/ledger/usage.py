"""Which jobs used a patient: those that were let in over a release that holds the subject."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from node.gate.ledger.entries import Entry


@dataclass
class Use:
    """One job over a release that holds the subject, and what left for it."""

    job: str
    release: str
    consortium: str
    project: str
    researcher: str
    work: str
    time: str
    answers: list[int] = field(default_factory=list)
    """The entries of the payloads that left."""
    bytes: int = 0


def uses(entries: Iterable[Entry], releases: Collection[str]) -> list[Use]:
    """Return the jobs over any of ``releases`` (digests), in the order in which they were let in.

    A job that was let in and whose answer didn't leave is listed without answers.
    """
    found: dict[str, Use] = {}
    for entry in entries:
        body = entry.body
        if entry.kind not in ("admitted", "answer") or body.get("release") not in releases:
            continue
        use = found.setdefault(
            str(body["job"]),
            Use(
                job=str(body["job"]),
                release=str(body["release"]),
                consortium=str(body.get("consortium", "")),
                project=str(body.get("project", "")),
                researcher=str(body.get("researcher", "")),
                work=str(body.get("work", "")),
                time=entry.time,
            ),
        )
        if entry.kind == "answer":
            use.answers.append(entry.sequence)
            use.bytes += int(body.get("bytes", 0))
    return list(found.values())
