"""What a job asks for: a question in statistics, or a Flower app to be run."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from contract.cohorts import Cohort
from contract.models import Model
from contract.names import Line, Name, Sha256, VariableName

Scalar = bool | int | float | str

MAX_ACROSS = 29


class Statistic(BaseModel):
    """One statistic asked for: of a variable, and for each level of another (``by``) or overall.

    ``count``: subjects and missing. ``moments``: n, mean, sum of squared deviations. ``shape``:
    those, and sums of cubed and fourth powers. ``histogram``: counts on the dictionary's grid.
    ``levels``: counts of each category. ``crosstab``: counts of each combination of the levels, or
    places on the grid, of ``variable`` and one or two more (``across``). ``comoments``: means and
    sums of products of deviations, of ``variable`` and the numbers ``across``, complete cases.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["count", "moments", "shape", "histogram", "levels", "crosstab", "comoments"]
    variable: VariableName
    by: VariableName | None = None
    across: Annotated[tuple[VariableName, ...], Field(max_length=MAX_ACROSS)] = ()
    """The other variables of a crosstab or of comoments."""

    @model_validator(mode="after")
    def _has_as_many_variables_as_its_kind(self) -> Self:
        most = {"crosstab": 2, "comoments": MAX_ACROSS}.get(self.kind, 0)
        if not min(most, 1) <= len(self.across) <= most:
            raise ValueError(f"{self.kind} is of another number of variables")
        if len(set(self.variables)) != len(self.variables) or self.by in self.across:
            raise ValueError("a variable is named twice")
        return self

    @property
    def variables(self) -> tuple[str, ...]:
        """What it is of, but ``by``."""
        return (self.variable, *self.across)


Lane = Literal["exact", "dp"]
"""How an answer was protected: as aggregates over declared cells, or by noise."""


class StatisticsWork(BaseModel):
    """A question in statistics: up to 1,000 of them in one round trip, all of one cohort."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["statistics"] = "statistics"
    ask: Annotated[tuple[Statistic, ...], Field(min_length=1, max_length=1000)]
    cohort: Cohort | None = None
    """Of whom; everybody's when absent."""
    analysis: Name | None = None
    """The analysis set of the releases that is asked; each variable's own when absent."""
    lane: Literal["any", "exact", "dp"] = "any"
    """By which lane of the gate an answer may come; ``exact`` refuses noise."""
    epsilon: Annotated[float, Field(gt=0, le=16)] | None = None
    """What the question would spend on noise at each site, all its statistics together; the
    policies' most when absent."""
    secure: bool = False
    """Whether the sites' parts are summed securely, so that nobody sees a site's own; of a model
    those of each step. Of the lane ``exact`` only."""
    small_sites: bool = False
    """Of a secure sum over releases that are declared for such sums alone: so that sites can take
    part that are too small to answer for themselves."""

    fit: Model | None = None
    """A model to fit to the analysis set, step by step. ``ask`` is then of each of its variables:
    who may have all of these exactly may have the model's sums."""

    @model_validator(mode="after")
    def _is_exact_if_secure_or_fitted(self) -> Self:
        if (self.secure or self.fit is not None) and self.lane != "exact":
            raise ValueError("a secure sum or a model is of the lane exact")
        if self.small_sites and not self.secure:
            raise ValueError("small sites take part in secure sums only")
        if self.fit is not None and (self.small_sites or self.analysis is None):
            raise ValueError("a model is of an analysis set, and of sites that each are enough")
        if self.fit is not None and self.secure and self.fit.shows_sites:
            raise ValueError("what is told of single sites is not in a secure sum of them")
        return self


class SecureUpdates(BaseModel):
    """How a job's updates are summed securely (``contract.secure_aggregation.updates``).

    ``clip_norm`` is the largest L2 norm of a site's update, over all its arrays together; ``bits``
    those of a number of it on the grid. ``most_examples`` is the largest number of examples that a
    site may weigh with. ``noise_multiplier`` is the noise that the sum holds, as a multiple of
    ``clip_norm``; 0: none. ``sparse``: over 200 sites and more, and only as strong as a
    coordinator is honest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    clip_norm: Annotated[float, Field(ge=1e-6, le=1e6)]
    bits: Annotated[int, Field(ge=16, le=40)] = 26
    most_examples: Annotated[int, Field(ge=1, le=10**9)] = 10_000
    noise_multiplier: Annotated[float, Field(ge=0, le=1000)] = 0.0
    sparse: bool = False

    @field_validator("noise_multiplier")
    @classmethod
    def _is_none_or_enough_to_count_with(cls, value: float) -> float:
        if 0 < value < 1e-6:
            raise ValueError("noise is 0, or 1e-6 and more")
        return value


class TrainingWork(BaseModel):
    """A Flower app to be run: its bundle's SHA-256, its parameters (run config), and a seed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["training"] = "training"
    bundle: Sha256
    parameters: Annotated[dict[Line, Scalar], Field(max_length=200)] = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    secure: SecureUpdates | None = None
    """How updates are summed so that nobody sees a site's own; None: each is seen."""
    start_from: Sha256 | None = None
    """The finished model, by the SHA-256 of its safetensors, whose arrays training begins with."""
    cross_evaluation: bool = False
    """Whether each site's own model is evaluated at every site, instead of one model trained."""
    engine: Literal["wardgate", "superlink"] = "wardgate"
    """What carries its tasks: the link, or a stock Flower SuperLink beside it."""

    @model_validator(mode="after")
    def _shows_no_single_model_if_secure(self) -> Self:
        if self.secure is not None and self.cross_evaluation:
            raise ValueError("a secure job shows no site's own model")
        if self.secure is not None and self.engine != "wardgate":
            raise ValueError("secure sums go by the engine wardgate")
        return self


Work = Annotated[StatisticsWork | TrainingWork, Field(discriminator="kind")]
