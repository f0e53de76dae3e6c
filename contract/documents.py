"""Roster, project and job: the signed documents of a consortium, as frozen models.

Each travels as the payload of a DSSE envelope (``contract.envelope``). The models say what a
document may hold; who must have signed it is said in ``contract.trust``.
"""

from __future__ import annotations

import functools
import re
import secrets
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from contract import keys, names
from contract.dictionary import Variable, Variables, check_derivations
from contract.envelope import Envelope
from contract.errors import DocumentError
from contract.work import Scalar, Work

ROSTER_TYPE = "application/vnd.wardgate.roster+json"
PROJECT_TYPE = "application/vnd.wardgate.project+json"
JOB_TYPE = "application/vnd.wardgate.job+json"

Name = names.Name
VariableName = names.VariableName
Sha256 = names.Sha256
Line = names.Line
PublicKey = Annotated[str, StringConstraints(min_length=44, max_length=44)]

MAX_JOB_LIFE_DAYS = 31
_READ = 8
"""Documents that are kept as read: a job's is wanted by several, one after the other."""


class Document(BaseModel):
    """What roster, project and job have in common: a consortium and a time in which they hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    consortium: Name
    issued_at: AwareDatetime
    expires_at: AwareDatetime

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.expires_at <= self.issued_at:
            raise ValueError("expires_at must be later than issued_at")
        return self

    @classmethod
    def read(cls, payload: bytes) -> Self:
        """Parse a payload whose signatures were checked; ``DocumentError`` names bad fields."""
        read = _read(cls, payload)
        assert isinstance(read, cls)
        return read

    def check_begun(self, now: datetime) -> None:
        """Raise ``DocumentError`` unless ``issued_at <= now``."""
        what = type(self).__name__.lower()
        if now < self.issued_at:
            raise DocumentError(f"The {what} is not valid yet (from {self.issued_at.isoformat()}).")

    def check_validity(self, now: datetime) -> None:
        """Raise ``DocumentError`` unless ``issued_at <= now < expires_at``."""
        self.check_begun(now)
        what = type(self).__name__.lower()
        if now >= self.expires_at:
            raise DocumentError(f"The {what} expired at {self.expires_at.isoformat()}.")

    def seal(self, payload_type: str) -> Envelope:
        """Return an unsigned envelope with this document."""
        return Envelope.seal(payload_type, self.model_dump_json().encode())


@functools.lru_cache(_READ)
def _read(kind: type[Document], payload: bytes) -> Document:
    try:
        return kind.model_validate_json(payload)
    except ValidationError as error:
        fields = sorted({".".join(map(str, e["loc"])) or "itself" for e in error.errors()})
        raise DocumentError(
            f"A {kind.__name__.lower()} is malformed at: {', '.join(fields[:5])}."
        ) from None


class Member(BaseModel):
    """Somebody on the roster: a name and an Ed25519 public key (base64 of 32 bytes)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    key: PublicKey

    @field_validator("key")
    @classmethod
    def _is_a_key(cls, value: str) -> str:
        keys.public_bytes(value)
        return value

    @property
    def key_id(self) -> str:
        """The id under which this member signs."""
        return keys.key_id(self.key)


class Roster(Document):
    """Who is in a consortium. Signed by a threshold of its hospitals' stewards."""

    version: Annotated[int, Field(ge=1)]
    threshold: Annotated[int, Field(ge=1)]
    stewards: Annotated[tuple[Member, ...], Field(min_length=1, max_length=1024)]
    sites: Annotated[tuple[Member, ...], Field(max_length=1024)]
    researchers: Annotated[tuple[Member, ...], Field(max_length=4096)]
    projects: Annotated[dict[Name, Annotated[int, Field(ge=1)]], Field(max_length=4096)] = Field(
        default_factory=dict
    )
    """The versions of the projects that were in force when it was made: no older one holds."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.threshold > len(self.stewards):
            raise ValueError("threshold is larger than the number of stewards")
        for role in (self.stewards, self.sites, self.researchers):
            if len({m.name for m in role}) != len(role):
                raise ValueError("a name occurs twice")
        everyone = [m.key for role in (self.stewards, self.sites, self.researchers) for m in role]
        if len(set(everyone)) != len(everyone):
            raise ValueError("a key occurs twice; each role needs a key of its own")
        return self

    @property
    def steward_keys(self) -> dict[str, str]:
        """Key id to public key, of the stewards."""
        return {m.key_id: m.key for m in self.stewards}

    def site(self, name: str) -> Member | None:
        """Return the site called ``name``, or None."""
        for member in self.sites:
            if member.name == name:
                return member
        return None

    def researcher(self, name: str) -> Member | None:
        """Return the researcher called ``name``, or None."""
        return next((m for m in self.researchers if m.name == name), None)


class ParameterRange(BaseModel):
    """What a recipe's parameter may be: a range of numbers, a choice, or text of a pattern."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Scalar, ...] = ()
    characters: Annotated[str, StringConstraints(max_length=100)] = ""
    max_length: Annotated[int, Field(ge=1, le=100_000)] = 1000

    def admits(self, value: Scalar) -> bool:
        """Say whether ``value`` is allowed."""
        if self.choices:
            return any(value == c and type(value) is type(c) for c in self.choices)
        if isinstance(value, bool):
            return False
        if isinstance(value, str):
            return (
                bool(self.characters)
                and len(value) <= self.max_length
                and set(value) <= set(self.characters)
            )
        if self.minimum is None or self.maximum is None:
            return False
        return self.minimum <= value <= self.maximum


class MetricRange(BaseModel):
    """Between what values a metric lies."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    minimum: float
    maximum: float

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.minimum >= self.maximum:
            raise ValueError("minimum must be below maximum")
        return self


class RecipeGrant(BaseModel):
    """A recipe that may run: its exact bundle, its parameters' ranges, and what may come out.

    ``bundle`` is the SHA-256 of the FAB. ``metrics`` are the only metric names that may leave;
    those in ``metric_ranges`` only within their range. Where a hospital wants noise, each metric
    but ``num-examples`` needs one. Arrays that leave must have the names, shapes and dtypes of
    those that came in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    bundle: Sha256
    parameters: dict[Line, ParameterRange] = Field(default_factory=dict)
    metrics: Annotated[tuple[Line, ...], Field(max_length=100)]
    metric_ranges: dict[Line, MetricRange] = Field(default_factory=dict)
    metric_lengths: dict[Line, Annotated[int, Field(ge=1, le=10_000)]] = Field(default_factory=dict)
    """Metrics that may be lists of numbers, and how long at most; all others are one number."""
    metric_records: Annotated[tuple[Line, ...], Field(max_length=10)] = ()
    """Names that a reply's record of metrics may have beside ``metrics``."""
    num_examples: Literal["subjects", "other"] = "subjects"
    """What ``num-examples`` counts. Of subjects there must be as many as a hospital's minimum
    cohort; what else it counts, such as batches, can't be held against that."""
    max_reply_bytes: Annotated[int, Field(ge=1, le=8 * 2**30)] = 256 * 2**20
    max_model_bytes: Annotated[int, Field(ge=0, le=2**30)] = 0
    """Longest array of bytes, such as an ensemble of trees, that may leave with another length than
    it came in with; 0: none may. Where a hospital clips or noises updates it doesn't leave."""
    secure: bool = False
    """Whether its updates may leave in secure sums only."""
    weights: Annotated[tuple[Sha256, ...], Field(max_length=100)] = ()
    """Files of pretrained weights, by their SHA-256, one of which a job may name by the parameter
    ``weights``; each hospital that is asked must have approved it too."""
    drafts: bool = False
    """Whether it may write drafts, which stay in the hospital."""
    cross_evaluation: bool = False
    """Whether a site's own model may be evaluated at the other sites, which then get it."""

    @model_validator(mode="after")
    def _ranges_are_of_metrics(self) -> Self:
        if not set(self.metric_ranges) | set(self.metric_lengths) <= set(self.metrics):
            raise ValueError("a range or a length is that of no metric")
        if "num-examples" in self.metric_lengths:
            raise ValueError("num-examples is one number")
        return self


class Project(Document):
    """What a hospital agrees to, once: purpose, members, variables, kinds of work, recipes."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    title: Line
    purpose: Line
    ethics_reference: Line
    legal_basis: Line
    jurisdictions: tuple[Line, ...] = ()
    sites: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1024)]
    researchers: Annotated[tuple[Name, ...], Field(min_length=1)]
    minimum_sites: Annotated[int, Field(ge=1)] = 1
    most_missing_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of subjects that sites may withhold before an estimate is withheld."""
    table: VariableName = "table"
    variables: Variables = ()
    kinds: tuple[Literal["statistics", "training"], ...]
    recipes: tuple[RecipeGrant, ...] = ()
    model_outcome: Line = "stays within the consortium"
    roster_version: Annotated[int, Field(ge=1)] = 1
    """The roster that was in force when it was made: with an older one it doesn't hold."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len({v.name for v in self.variables}) != len(self.variables):
            raise ValueError("a variable occurs twice")
        check_derivations(self.variables)
        if self.minimum_sites > len(self.sites):
            raise ValueError("minimum_sites is larger than the number of sites")
        return self

    def variable(self, name: str) -> Variable | None:
        """Return the dictionary's entry for ``name``, or None."""
        for variable in self.variables:
            if variable.name == name:
                return variable
        return None

    def recipe(self, bundle: str) -> RecipeGrant | None:
        """Return the grant for the bundle with this SHA-256, or None."""
        return next((r for r in self.recipes if r.bundle == bundle), None)


def new_nonce() -> str:
    """Return 128 random bits as hexadecimal."""
    return secrets.token_hex(16)


class Job(Document):
    """One question under one project, signed by a researcher.

    ``releases`` names, for each site that is asked, the release (by digest) that it is asked of.
    """

    project: Name
    project_version: Annotated[int, Field(ge=1)]
    researcher: Name
    nonce: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    releases: Annotated[dict[Name, Sha256], Field(min_length=1, max_length=1024)]
    minimum_sites: Annotated[int, Field(ge=1)] = 1
    roster_version: Annotated[int, Field(ge=1)] = 1
    """The roster that its researcher knows: a site that knows an older one was kept from it."""
    work: Work

    @model_validator(mode="after")
    def _is_short_lived(self) -> Self:
        if self.expires_at - self.issued_at > timedelta(days=MAX_JOB_LIFE_DAYS):
            raise ValueError(f"a job lives at most {MAX_JOB_LIFE_DAYS} days")
        return self


_SAFE = re.compile(r"[^\x20-\x7e\u00a0-\uffff]")


def printable(text: str, limit: int = 200) -> str:
    """Return ``text`` fit for one line of a terminal or log: no control characters, bounded."""
    clean = _SAFE.sub("?", text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
