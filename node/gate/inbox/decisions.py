"""Decisions of stewards: signed statements, and the rule by which they count. No I/O.

Guarantee: what waits is let through only by as many different stewards' keys as the policy asks
for, each over exactly this job or these bytes, at this site of this consortium; one who refuses is
enough. Assumptions: Ed25519 (RFC 8032); a steward's key is that steward's alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from contract.documents import Line, Name, PublicKey, Sha256
from contract.envelope import Envelope
from contract.errors import DocumentError, Refused, SignatureError
from contract.keys import SigningKey, key_id

DECISION_TYPE = "application/vnd.wardgate.decision+json"

What = Literal["job", "output", "recipe", "weights"]

REASONS: Mapping[str, str] = {
    "purpose": "The steward finds the question outside the project's purpose.",
    "cohort": "The steward objects to whom the question is about.",
    "output": "The steward objects to what would leave.",
    "recipe": "The steward objects to the recipe's code.",
    "dependencies": "The steward objects to the recipe's packages.",
    "risk": "The steward finds the risk to patients too high.",
    "timing": "The steward can't let this run now; ask again later.",
    "declined": "The site's steward declined.",
}
"""Why a steward refuses: all that a researcher learns, unless the steward tells more."""


class Decision(BaseModel):
    """What one steward decided on one thing that waited. ``key`` is who; ``note`` stays here
    unless ``tell``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: What
    subject: Sha256
    """The job's digest, ``output_subject`` of an output, the SHA-256 of a bundle or of weights."""
    consortium: Name | None
    site: Name | None
    """Both None for a recipe or weights, which are approved for the whole node."""
    verdict: Literal["approve", "refuse"]
    hold_outputs: bool = False
    """Whether the job's outputs wait for a steward too."""
    code: Line = ""
    """Of ``REASONS``, when refused."""
    note: Line = ""
    tell: bool = False
    key: PublicKey
    time: AwareDatetime

    def sign(self, key: SigningKey) -> bytes:
        """Return the decision as an envelope signed by the steward."""
        return Envelope.seal(DECISION_TYPE, self.model_dump_json().encode()).sign(key).to_bytes()

    @classmethod
    def verify(cls, data: bytes, allowed: Iterable[str]) -> Decision:
        """Return the decision if a key among ``allowed`` (ids) made and signed it."""
        envelope = Envelope.parse(data)
        try:
            decision = cls.model_validate_json(envelope.body)
        except ValidationError:
            raise DocumentError("A steward's decision is malformed.") from None
        signer = key_id(decision.key)
        if signer not in set(allowed):
            raise SignatureError("A decision is by a key that is no steward's here.")
        envelope.open(DECISION_TYPE, {signer: decision.key}, 1)
        if decision.verdict == "refuse" and decision.code not in REASONS:
            raise DocumentError("A steward's refusal has no known reason.")
        return decision

    @property
    def refusal(self) -> Refused:
        """What the researcher is told."""
        said = self.note if self.tell and self.note else REASONS[self.code]
        return Refused(f"steward-{self.code}", said)


@dataclass(frozen=True)
class Verdict:
    """What came of the stewards' decisions: let through by ``keys``, or refused."""

    keys: tuple[str, ...]
    refusal: Refused | None = None
    hold_outputs: bool = False


def output_subject(job: str, task: str, payload: bytes) -> str:
    """Return what an output is called in decisions: it is of this job and task, byte for byte."""
    digest = hashlib.sha256(payload).hexdigest()
    return hashlib.sha256(f"{job}\n{task}\n{digest}".encode()).hexdigest()


def verdict(
    envelopes: Iterable[bytes],
    allowed: Iterable[str],
    what: What,
    subject: str,
    place: tuple[str | None, str | None],
    people: int,
) -> Verdict | None:
    """Return what the stewards decided, or None while too few have.

    Decisions that don't hold (another's key, another subject or place) count for nothing.
    ``place`` is consortium and site.
    """
    keys = frozenset(allowed)
    approvals: dict[str, Decision] = {}
    for data in envelopes:
        try:
            decision = Decision.verify(data, keys)
        except (DocumentError, SignatureError):
            continue
        about = (decision.what, decision.subject, decision.consortium, decision.site)
        if about != (what, subject, *place):
            continue
        if decision.verdict == "refuse":
            return Verdict((key_id(decision.key),), decision.refusal)
        approvals[key_id(decision.key)] = decision
    if len(approvals) < people:
        return None
    hold = any(decision.hold_outputs for decision in approvals.values())
    return Verdict(tuple(sorted(approvals)), hold_outputs=hold)


def hold_wanted(
    envelopes: Iterable[bytes],
    allowed: Iterable[str],
    job: str,
    place: tuple[str | None, str | None],
) -> bool:
    """Say whether a steward wants to see the job's outputs before they leave; one is enough."""
    found = verdict(envelopes, allowed, "job", job, place, 1)
    return found is not None and found.hold_outputs


def decide(
    key: SigningKey,
    what: What,
    subject: str,
    place: tuple[str | None, str | None],
    now: datetime,
    *,
    code: str = "",
    note: str = "",
    tell: bool = False,
    hold_outputs: bool = False,
) -> bytes:
    """Return a signed decision: an approval, or a refusal when there is a ``code``."""
    return Decision(
        what=what,
        subject=subject,
        consortium=place[0],
        site=place[1],
        verdict="refuse" if code else "approve",
        hold_outputs=hold_outputs,
        code=code,
        note=note,
        tell=tell,
        key=key.public,
        time=now,
    ).sign(key)
