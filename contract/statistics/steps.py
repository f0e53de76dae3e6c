"""The steps of a model's fit: their names, and sites' parts of one, each under its site's receipt.

A site takes coefficients from nobody. With each step it is sent what all sites of the fit said in
the step before, and works out the coefficients itself (``contract.statistics.models.Fitting``).

Guarantee: what ``verified`` returns is, of each site of the roster that it names, exactly what that
site let out for this job in this step, and each site is in it once. So the coefficients follow from
the sites' own parts, and the coordinator can't choose them. Assumption: the sites' receipt keys are
theirs, and a site gives one answer to a step. Not guaranteed: that a site's part is true.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.documents import Job, Project, Roster
from contract.errors import DocumentError, SignatureError
from contract.receipts import Receipt

MOST_RESTARTS = 3
"""How often a fit is begun again without sites that left."""
MOST_RECEIPT_BYTES = 8192
_TASK = re.compile(r"step-(0|[1-9][0-9]{0,2})(?:\.([1-9]))?", re.ASCII)


@dataclass(frozen=True)
class Step:
    """A step: its number, and how often the fit was begun again before it.

    The first step is one for all attempts, for it is at coefficients that are always the same.
    """

    number: int
    attempt: int = 0

    @property
    def task(self) -> str:
        """The name of the step's task."""
        return f"step-{self.number}" + (f".{self.attempt}" if self.attempt else "")

    @property
    def before(self) -> Step:
        """The step from which this one's coefficients follow."""
        return Step(self.number - 1, self.attempt if self.number > 1 else 0)

    @classmethod
    def read(cls, task: str) -> Step:
        """Return the step of a task; ``DocumentError`` for another name."""
        found = _TASK.fullmatch(task)
        step = cls(int(found[1]), int(found[2] or 0)) if found else None
        if step is None or (step.number == 0 and step.attempt):
            raise DocumentError("A task is not a step of a model.")
        return step


@dataclass(frozen=True)
class Terms:
    """What the receipts of a fit's parts must be of."""

    job: str
    """The job's digest."""
    question: Job
    project: Project
    roster: Roster


def encode(replies: Sequence[wire.Reply], *, check: bool = False) -> wire.ModelStep:
    """Return what is sent with a step: all sites' replies to the one before.

    ``check`` asks a Cox model's checks at the coefficients instead of its sums. No step follows.
    """
    return wire.ModelStep(
        parts=[wire.SignedPart(payload=one.payload, receipt=one.receipt) for one in replies],
        check=check,
    )


def most_bytes(width: int, sites: int) -> int:
    """Return how large a step may be: a factor is the largest part, of ``width`` + 1 columns."""
    numbers = (width + 1) * (width + 2) // 2 + width + 4
    return sites * (9 * numbers + MOST_RECEIPT_BYTES + 100)


def verified(payload: bytes, step: Step, terms: Terms, width: int) -> Mapping[str, bytes]:
    """Return each site's part of the step before, by the sites' names in order.

    ``DocumentError`` when one isn't what its site let out for this job in that step, when a site is
    there twice, or when there is more than there are sites.
    """
    releases = terms.question.releases
    if len(payload) > most_bytes(width, len(releases)):
        raise DocumentError("A step is larger than its sites' parts can be.")
    try:
        told = wire.ModelStep.FromString(payload)
    except DecodeError:
        raise DocumentError("A step is malformed.") from None
    found: dict[str, bytes] = {}
    for part in told.parts:
        site = signed_by(part, step.before.task, terms)
        if site in found:
            raise DocumentError("A step holds a site's part twice.")
        found[site] = part.payload
    return {site: found[site] for site in sorted(found)}


def signed_by(part: wire.SignedPart, task: str, terms: Terms) -> str:
    """Return whose part this is, which its site let out for this job in this task."""
    try:
        receipt = Receipt.verify(part.receipt, terms.roster)
    except SignatureError:
        raise DocumentError("A step holds a part without its site's receipt.") from None
    site = receipt.site
    same = (
        site in terms.project.sites
        and receipt.consortium == terms.question.consortium
        and receipt.job == terms.job
        and receipt.task == task
        and receipt.release == terms.question.releases.get(site)
        and receipt.payload == hashlib.sha256(part.payload).hexdigest()
        and receipt.payload_bytes == len(part.payload)
    )
    if not same:
        raise DocumentError("A step holds a part that is of another step or job.")
    return site
