"""The steps of a model's fit whose parts are summed securely: their names, terms and records.

A step is one secure sum over all sites of the fit. Before the next one a site is given the record
of it: every site's masked vector under that site's receipt, and the seeds of their own masks. From
these it works out the total itself (``Client.recount``), and the coefficients from the total.

Guarantee: ``vectors_of`` returns what each site let out for this job in this step. The terms of a
sum name the total that it follows from, so no two sites sum at coefficients of different totals.
Assumptions: those of ``contract.statistics.steps`` and of ``contract.secure_aggregation.client``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from contract import wire_pb2 as wire
from contract.errors import DocumentError
from contract.models import Model
from contract.secure_aggregation import Terms, encoding
from contract.secure_aggregation.masking import Words
from contract.secure_aggregation.messages import MaskedVector, smallest_threshold
from contract.statistics import model_words, sums
from contract.statistics.steps import MOST_RECEIPT_BYTES, signed_by
from contract.statistics.steps import Terms as FitTerms

WORD = 64
PHASES = 5
VECTORS, UNMASKING = 3, 5
_MOST_BESIDE = 1536
"""What a record has of a site beside its vector: the receipt, nearly all of it."""
_TASK = re.compile(r"sum-(0|[1-9][0-9]{0,2})\.([0-9])\.([1-5])", re.ASCII)


@dataclass(frozen=True)
class SumTask:
    """One of the five phases of the sum of a step; ``attempt`` counts how often it was begun."""

    step: int
    attempt: int = 0
    phase: int = 1

    @property
    def name(self) -> str:
        """The task's name."""
        return f"sum-{self.step}.{self.attempt}.{self.phase}"

    @classmethod
    def read(cls, name: str) -> SumTask:
        """Return what a task's name says; ``DocumentError`` for another name."""
        found = _TASK.fullmatch(name)
        if found is None:
            raise DocumentError("A task is not a step of a model's secure sums.")
        return cls(int(found[1]), int(found[2]), int(found[3]))

    def at(self, phase: int) -> SumTask:
        """Return another phase of the same sum."""
        return SumTask(self.step, self.attempt, phase)


def terms(
    fit: FitTerms,
    model: Model,
    width: int,
    task: SumTask,
    sites: Sequence[str],
    follows: bytes,
    *,
    check: bool = False,
) -> Terms:
    """Return the terms of the sum of one step, over exactly ``sites``: none of them may be missing.

    ``follows`` is the digest of the total before, empty at the first step. ``DocumentError`` for
    sites that the job doesn't ask, or too many.
    """
    if len(sites) > model_words.SITES:
        raise DocumentError("A model's steps are summed over fewer sites.")
    everyone = sums.participants(fit.question, fit.project, fit.roster, sites)
    session = hashlib.sha256(b"wardgate model sum\0" + bytes.fromhex(fit.job))
    session.update(task.step.to_bytes(4, "big") + task.attempt.to_bytes(4, "big"))
    session.update(bytes([check]) + follows)
    return Terms(
        session=session.digest(),
        participants=everyone,
        minimum=len(everyone),
        length=model_words.length(model, width, check=check),
        word=WORD,
        threshold=smallest_threshold(len(everyone)),
    )


def most_record_bytes(model: Model, width: int, sites: int) -> int:
    """Return how large the record of a sum can be."""
    return sites * (model_words.length(model, width) * (WORD // 8) + _MOST_BESIDE)


def digest_of(total: Words, follows: bytes) -> bytes:
    """Return a digest of a total, and of all totals before it."""
    little = total.astype("<u8", copy=False)
    return hashlib.sha256(little.tobytes() + follows).digest()


def vectors_of(
    record: wire.SumRecord, task: SumTask, fit: FitTerms, terms: Terms
) -> list[MaskedVector]:
    """Return the masked vectors of a finished sum's record, each from its own site.

    ``DocumentError`` when one isn't what its site let out in that sum, or a site isn't there once.
    """
    most = terms.length * (WORD // 8) + 100
    if len(record.vectors) != terms.sites:
        raise DocumentError("A sum comes back without a site, or with one twice.")
    found = []
    for place, (part, site) in enumerate(zip(record.vectors, terms.participants, strict=True)):
        if len(part.payload) > most or len(part.receipt) > MOST_RECEIPT_BYTES:
            raise DocumentError("A sum's record is larger than its vectors can be.")
        if signed_by(part, task.at(VECTORS).name, fit) != site.name:
            raise DocumentError("A sum comes back without a site, or with one twice.")
        vector = encoding.answer(part.payload, place, terms.word)
        if not isinstance(vector, MaskedVector) or vector.words.shape != (terms.length,):
            raise DocumentError("A masked vector has another form than the terms.")
        found.append(vector)
    return found
