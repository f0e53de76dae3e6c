"""What a job's status tells: who is to decide yet, and why there is no result."""

from __future__ import annotations

from contract import wire_pb2 as wire
from contract.failures import with_meaning

NAMED = 5
"""So many sites are named for one reason that a job failed."""


def held_by(status: wire.JobStatus) -> list[str]:
    """Return the sites whose stewards are to decide."""
    return [s.site for s in status.sites if s.state == "held" or s.code.startswith("waiting")]


def explain(status: wire.JobStatus) -> str:
    """Return one line about why a job gave no result; sites with one reason stand together."""
    why: dict[str, list[str]] = {}
    for site in status.sites:
        if site.state != "answered":
            code = f"{site.state}, {with_meaning(site.code)}" if site.code else site.state
            why.setdefault(site.sentence or code, []).append(site.site)
    sites = "; ".join(
        f"{', '.join(names[:NAMED])}"
        f"{f' and {len(names) - NAMED} more' if len(names) > NAMED else ''}: {sentence}"
        for sentence, names in why.items()
    )
    return f"The job {status.state} ({status.reason or 'no reason given'}). {sites}".strip()
