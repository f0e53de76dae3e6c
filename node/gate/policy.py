"""The hospital's policy: one TOML file that nothing a stranger sends can widen."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from foundation import settings

HARD_MINIMUM = 3
"""No policy can go below this, for cohorts and for cells."""


class DisclosureSettings(settings.Settings):
    """What an answer must be an aggregate over."""

    minimum_cohort: Annotated[int, Field(ge=HARD_MINIMUM)] = 20
    """Fewest subjects that a statistic, or a group of it, may be about."""
    minimum_cell: Annotated[int, Field(ge=HARD_MINIMUM)] = 10
    """Fewest subjects that a non-empty cell of counts may hold."""

    omit_with_withdrawals: Annotated[int, Field(ge=HARD_MINIMUM)] = 10
    """Fewest others, drawn at random, that releases omit with those who withdrew."""

    @property
    def omissions(self) -> int:
        """How many others are omitted: never fewer than a cell holds."""
        return max(self.omit_with_withdrawals, self.minimum_cell)

    @model_validator(mode="after")
    def _are_in_order(self) -> Self:
        if self.minimum_cohort < self.minimum_cell:
            raise ValueError("minimum_cohort must not be below minimum_cell")
        return self


class TrainingSettings(settings.Settings):
    """What training may take and what it may send."""

    allowed: bool = True
    """Whether recipes run here at all."""
    minimum_subjects: Annotated[int, Field(ge=HARD_MINIMUM)] = 100
    """Fewest subjects in the release that a model is trained on."""
    max_reply_bytes: Annotated[int, Field(ge=1024)] = 1024**3
    """Largest model update that may leave, whatever the project says."""
    memory_bytes: Annotated[int, Field(ge=64 * 2**20)] = 8 * 2**30
    """Memory of a recipe's worker."""
    cpu_seconds: Annotated[int, Field(ge=1)] = 24 * 3600
    """Processor time of a worker over the whole job."""
    message_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """Longest time over one message; then the worker is killed."""
    processes: Annotated[int, Field(ge=1)] = 128
    """Processes and threads of a worker."""
    temporary_bytes: Annotated[int, Field(ge=2**20)] = 2**30
    """Size of a worker's private /tmp."""


class JobLimits(settings.Settings):
    """How often and how long."""

    per_hour: Annotated[int, Field(ge=1)] = 1000
    """Jobs that one researcher may ask in an hour."""
    max_statistics: Annotated[int, Field(ge=1, le=1000)] = 500
    """Statistics in one question."""
    max_answer_bytes: Annotated[int, Field(ge=1024)] = 4 * 2**20
    """Largest answer in statistics that may leave."""


class LedgerSettings(settings.Settings):
    """What the ledger keeps beside its entries."""

    keep_payload_bytes: Annotated[int, Field(ge=0)] = 4 * 2**20
    """Payloads up to this size are kept whole, so that what left can be replayed; larger ones by
    their digest."""


class Policy(settings.Settings):
    """All of a hospital's policy."""

    profile: Literal["strict", "standard", "open-research"] = "standard"
    """The profile that the file began as; informative."""
    disclosure: DisclosureSettings = DisclosureSettings()
    training: TrainingSettings = TrainingSettings()
    jobs: JobLimits = JobLimits()
    ledger: LedgerSettings = LedgerSettings()

    @property
    def digest(self) -> str:
        """SHA-256 of the policy's values, as the ledger notes it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_policy(path: Path) -> Policy:
    """Read a policy file. The environment overrides nothing here."""
    return settings.load(Policy, path, "WARDGATE_NO_OVERRIDE", {})
