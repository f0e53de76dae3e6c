"""The hospital's policy: one TOML file that nothing a stranger sends can widen."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from contract.documents import Name, ParameterRange
from foundation import settings
from foundation.hours import Hours

HARD_MINIMUM = 3
"""No policy can go below this, for cohorts and for cells."""


def _are_hours(text: str) -> str:
    Hours.parse(text)
    return text


class DisclosureSettings(settings.Settings):
    """What an answer must be an aggregate over."""

    minimum_cohort: Annotated[int, Field(ge=HARD_MINIMUM)] = 20
    """Fewest subjects that a statistic, or a group of it, may be about."""
    minimum_cell: Annotated[int, Field(ge=HARD_MINIMUM)] = 10
    """Fewest subjects that a non-empty cell of counts may hold."""

    omit_with_withdrawals: Annotated[int, Field(ge=HARD_MINIMUM)] = 10
    """Fewest others, drawn at random, that releases omit with those who withdrew."""
    minimum_sum_sites: Annotated[int, Field(ge=HARD_MINIMUM)] = 5
    """Fewest sites of the roster that a secure sum may be over."""
    small_sites: bool = False
    """Whether a release may be declared for secure sums alone, at lower minimums."""
    models: bool = True
    """Whether models are fitted."""
    model_categories: Literal["pairs", "all"] = "all"
    """Of which categories of a model counts must be declared together: of those in any two terms,
    or, if it takes several steps, of all in it."""
    subjects_per_coefficient: Annotated[int, Field(ge=5)] = 5
    """Fewest subjects of a release for each coefficient of a model."""
    releases_apart: bool = True
    """Whether a new release is exact only where exact answers of earlier ones of its table, with
    its own, tell of too few nowhere."""
    largest_contribution: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Largest share of a total that one subject may hold in any cell that a release declares."""

    @property
    def omissions(self) -> int:
        """How many others are omitted: never fewer than a cell holds."""
        return max(self.omit_with_withdrawals, self.minimum_cell)

    @property
    def in_sums(self) -> DisclosureSettings:
        """What holds of a site's part in a sum over ``minimum_sum_sites``, none of which tells its
        own: that the total is over ``minimum_cohort`` subjects. Never under ``HARD_MINIMUM``.
        """

        def of_each(least: int) -> int:
            return max(HARD_MINIMUM, -(-least // self.minimum_sum_sites))

        return self.model_copy(
            update={
                "minimum_cohort": of_each(self.minimum_cohort),
                "minimum_cell": of_each(self.minimum_cell),
            }
        )

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
    superlink: bool = False
    """Whether tasks may come, and updates leave, over a Flower SuperLink."""
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
    gpus: bool = False
    """Whether a worker sees the machine's GPUs."""
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    """Largest L2 norm of an update, the reply less what was received; 0: as it is."""
    quantise_bits: Literal[0, 8, 16] = 0
    """Bits that each number of an update is rounded to; 0: as it is."""
    noise_multiplier: Annotated[float, Field(ge=0)] = 0.0
    """Gaussian noise on each update, as a multiple of clip_norm; 0: none."""
    check_imprint: bool = True
    """Refuse weights that are made so that an update tells single records."""
    secure_only: bool = False
    """Whether updates leave in secure sums only, so that nobody sees this site's own."""
    sum_noise_multiplier: Annotated[float, Field(ge=0)] = 0.0
    """Least Gaussian noise that a secure sum must hold, as a multiple of the job's clip_norm."""
    sum_site_sets: Annotated[int, Field(ge=1, le=100_000)] = 4
    """Over how many different sets of sites the secure sums of one job may be."""
    sparse_sums: bool = False
    """Whether secure sums may use the sparse graph, which trusts the coordinator's honesty."""
    drafts: bool = False
    """Whether a recipe may leave drafts in the hospital, where the project allows it too."""
    draft_bytes: Annotated[int, Field(ge=1024)] = 2**30
    """Most bytes of drafts that one job may leave; a worker has as much memory for them."""
    draft_files: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Most files of drafts that one job may leave."""

    @model_validator(mode="after")
    def _noise_is_of_something(self) -> Self:
        if self.noise_multiplier and not self.clip_norm:
            raise ValueError("noise_multiplier needs a clip_norm above 0")
        return self


class PrivacySettings(settings.Settings):
    """Answers with noise: the dp lane, and the account that it draws on."""

    allowed: bool = True
    """Whether questions that the release's cells can't answer exactly get noise, or a refusal."""
    epsilon_question: Annotated[float, Field(gt=0, le=16)] = 0.5
    """Most that one question may spend."""
    epsilon_project: Annotated[float, Field(gt=0)] = 8.0
    """Most that one project may spend on one pool of subjects, ever."""
    epsilon_subject_year: Annotated[float, Field(gt=0)] = 16.0
    """Most that all projects and consortia together may spend on one pool within 365 days."""
    delta: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The delta of these guarantees; 0: a tenth of one over the number of subjects."""
    tell_spent: bool = True
    """Whether receipts of training say what noise a payload was charged for."""

    @model_validator(mode="after")
    def _are_in_order(self) -> Self:
        if self.epsilon_question > self.epsilon_project:
            raise ValueError("epsilon_question must not be above epsilon_project")
        return self


class ApprovalSettings(settings.Settings):
    """What waits for the steward."""

    hold_jobs: list[Literal["statistics", "training"]] = Field(default_factory=list)
    """Kinds of work that wait for the steward even within an approved project's ranges."""
    hold_outputs: list[Literal["statistics", "training"]] = Field(default_factory=list)
    """Kinds of work whose answers wait for the steward before they leave."""
    people: Annotated[int, Field(ge=1, le=5)] = 1
    """How many different stewards must approve what waits."""


class JobLimits(settings.Settings):
    """How often and how long."""

    per_hour: Annotated[int, Field(ge=1)] = 1000
    """Jobs that one researcher may ask in an hour."""
    unsigned_per_hour: Annotated[int, Field(ge=100)] = 1000
    """Messages of a coordinator that no researcher signed anew and that are written down."""
    max_statistics: Annotated[int, Field(ge=1, le=1000)] = 500
    """Statistics in one question."""
    max_answer_bytes: Annotated[int, Field(ge=1024)] = 4 * 2**20
    """Largest answer in statistics that may leave."""
    hours: str = ""
    """When jobs are let in, for example "mon-fri 07:00-19:00"; empty: always."""
    answer_ms: Annotated[float, Field(ge=0)] = 30.0
    """An answer or refusal in statistics leaves so long after the question came, or later."""
    answer_ms_per_million: Annotated[float, Field(ge=0)] = 10.0
    """Added to it for each million subjects that the release is listed with, and statistic."""
    roster_days: Annotated[int, Field(ge=1, le=366)] = 90
    """Days after a roster was made in which it is believed here, however long it says it holds."""

    _hours = field_validator("hours")(_are_hours)


class LedgerSettings(settings.Settings):
    """What the ledger keeps beside its entries."""

    keep_payload_bytes: Annotated[int, Field(ge=0)] = 4 * 2**20
    """Payloads up to this size are kept whole, so that what left can be replayed; larger ones by
    their digest."""
    keep_payload_days: Annotated[int, Field(ge=1)] = 365
    """How long payloads are kept."""


class ProjectLimits(settings.Settings):
    """What one project may do here, however much it was approved for. Empty: no such limit."""

    kinds: list[Literal["statistics", "training"]] = Field(default_factory=list)
    """Kinds of work."""
    variables: list[str] = Field(default_factory=list)
    """Variables that may be asked about, grouped by and selected by."""
    researchers: list[str] = Field(default_factory=list)
    """Who may ask."""
    recipes: list[str] = Field(default_factory=list)
    """SHA-256 of the bundles that may run."""
    purposes: list[str] = Field(default_factory=list)
    """The purposes that the project may state."""
    legal_bases: list[str] = Field(default_factory=list)
    """The legal bases that the project may state."""
    jurisdictions: list[str] = Field(default_factory=list)
    """Jurisdictions that the project may reach, no others."""
    per_hour: Annotated[int, Field(ge=1)] | None = None
    """Jobs that all its researchers together may ask in an hour."""
    hours: str = ""
    """When its jobs are let in; jobs.hours holds as well."""
    epsilon: Annotated[float, Field(ge=0)] | None = None
    """Most that it may spend, instead of privacy.epsilon_project."""
    lanes: list[Literal["exact", "dp"]] = Field(default_factory=list)
    """Lanes by which its questions are answered."""
    hold_outputs: bool | None = None
    """Whether its answers wait for the steward."""
    granularity: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Most levels or bins that its dictionary may give a variable which is asked about."""
    parameters: dict[str, dict[str, ParameterRange]] = Field(default_factory=dict)
    """By a bundle's SHA-256: values that a parameter may have, and must be given by the job."""
    minimum_cohort: Annotated[int, Field(ge=HARD_MINIMUM)] | None = None
    """Where it is more than disclosure.minimum_cohort: instead of it."""
    minimum_cell: Annotated[int, Field(ge=HARD_MINIMUM)] | None = None
    """Where it is more than disclosure.minimum_cell: instead of it."""
    epsilon_question: Annotated[float, Field(gt=0)] | None = None
    """Where it is less than privacy.epsilon_question: instead of it."""
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Largest delta of its guarantees."""
    noise_multiplier: Annotated[float, Field(gt=0)] | None = None
    """Where it is more than training.noise_multiplier: instead of it."""

    _hours = field_validator("hours")(_are_hours)

    @property
    def is_stricter(self) -> bool:
        """Whether it may change what the rest of the policy says of a job."""
        stricter = (self.minimum_cohort, self.minimum_cell, self.epsilon_question)
        return any(one is not None for one in (*stricter, self.noise_multiplier))


NO_LIMITS = ProjectLimits()


class Policy(settings.Settings):
    """All of a hospital's policy."""

    profile: Literal["strict", "standard", "open-research"] = "standard"
    """The profile that the file began as; informative."""
    disclosure: DisclosureSettings = DisclosureSettings()
    privacy: PrivacySettings = PrivacySettings()
    approval: ApprovalSettings = ApprovalSettings()
    training: TrainingSettings = TrainingSettings()
    jobs: JobLimits = JobLimits()
    ledger: LedgerSettings = LedgerSettings()
    projects: dict[Name, ProjectLimits] = Field(default_factory=dict)
    """Limits by project: ``[projects.NAME]``."""

    def limits(self, project: str) -> ProjectLimits:
        """Return what holds for one project."""
        return self.projects.get(project, NO_LIMITS)

    def under(self, project: str) -> Policy:
        """Return what holds for one project's jobs: where its limits are stricter, those.

        Its digest is that of the whole policy, which is what the ledger knows.
        """
        own = self.limits(project)
        if not own.is_stricter:
            return self
        disclosure, privacy, training = self.disclosure, self.privacy, self.training
        # A multiple: rounded by two that aren't, one count would tell more than either does.
        times = math.ceil((own.minimum_cell or 0) / disclosure.minimum_cell)
        cell = disclosure.minimum_cell * max(1, times)
        cohort = max(disclosure.minimum_cohort, own.minimum_cohort or 0, cell)
        epsilon = min(privacy.epsilon_question, own.epsilon_question or math.inf)
        noise = max(training.noise_multiplier, own.noise_multiplier or 0.0)
        made = self.model_copy(
            update={
                "disclosure": disclosure.model_copy(
                    update={"minimum_cell": cell, "minimum_cohort": cohort}
                ),
                "privacy": privacy.model_copy(update={"epsilon_question": epsilon}),
                "training": training.model_copy(update={"noise_multiplier": noise}),
            }
        )
        made.__dict__["digest"] = self.digest
        return made

    @model_validator(mode="after")
    def _noise_of_projects_is_of_something(self) -> Self:
        if not self.training.clip_norm:
            for name, own in self.projects.items():
                if own.noise_multiplier:
                    raise ValueError(f"projects.{name}.noise_multiplier needs training.clip_norm")
        return self

    def holds_outputs(self, project: str, kind: str) -> bool:
        """Say whether answers of a kind of work wait for the steward under a project."""
        own = self.limits(project).hold_outputs
        return kind in self.approval.hold_outputs if own is None else own

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, which works its digest out anew."""
        made = super().model_copy(update=update, deep=deep)
        made.__dict__.pop("digest", None)
        return made

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the policy's values, as the ledger notes it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def changes(old: Policy, new: Policy) -> dict[str, tuple[object, object]]:
    """Return what differs between two policies: the keys, each with what was and what is."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    return {
        key: (before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def _flat(values: Mapping[str, object], above: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found


def load_policy(path: Path) -> Policy:
    """Read a policy file. The environment overrides nothing here."""
    return settings.load(Policy, path, "WARDGATE_NO_OVERRIDE", {})
