"""A model to be fitted over sites, as a job asks for it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contract.names import VariableName
from contract.terms import Factor, Function, Term

Family = Literal["linear", "logistic", "poisson", "gamma", "cox"]
Robust = Literal["HC0", "HC1", "site"]


class Model(BaseModel):
    """A model to be fitted over sites: what is explained, and by which terms.

    ``outcome`` is a number; of a logistic model a category of two levels, of which the second is
    the event. Of a Cox model it is the time, and ``event`` such a category. Categories are
    treatment-coded; there is an intercept unless the model says otherwise, but in a Cox model. A
    Cox model is stratified by site.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Family
    outcome: VariableName
    transform: Function | None = None
    """Of a linear model's outcome."""
    event: VariableName | None = None
    """Of a Cox model."""
    entry: VariableName | None = None
    """Of a Cox model: when each subject came under observation."""
    terms: Annotated[tuple[Term, ...], Field(max_length=100)]
    intercept: bool = True
    offset: Annotated[tuple[Factor, ...], Field(max_length=3)] = ()
    """Numbers that are added to the linear predictor."""
    weights: VariableName | None = None
    """A positive number for each subject, as R's argument of that name: prior weights, of a Cox
    model case weights."""
    strata: Annotated[tuple[VariableName, ...], Field(max_length=3)] = ()
    """Of a Cox model: categories whose levels have a baseline hazard each, within each site."""
    ties: Literal["efron", "breslow"] = "efron"
    """How a Cox model treats events at one time."""
    time_scale: Literal["identity", "log"] = "identity"
    """Against what of time a Cox model's hazards are tested for proportionality."""
    link: Literal["log", "inverse"] = "log"
    """Of a gamma model."""
    site: Literal["pooled", "fixed", "random", "each"] = "pooled"
    """What differs between sites: nothing (of a Cox model the baseline hazard), an effect of the
    site, a random intercept (linear, logistic and Poisson models), or everything: each site's own
    fit, for meta-analysis."""
    method: Literal["reml", "ml"] = "reml"
    """How a random intercept's variance is estimated, of a linear model; of others by ml."""
    robust: Robust | None = None
    """Robust standard errors: by each row's score, as it is (HC0) or times n / (n - p) (HC1), or by
    each site's."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        cox, linear = self.family == "cox", self.family == "linear"
        if cox != (self.event is not None):
            raise ValueError("Surv(time, event) is what a Cox model explains, and no other does")
        for wrong, sentence in (
            ((self.entry or self.strata) and not cox, "strata and an entry are a Cox model's"),
            (self.transform and not linear, "only a linear model's outcome may be transformed"),
            (self.link != "log" and self.family != "gamma", "only a gamma model has another link"),
            (
                self.site == "random" and self.family not in ("linear", "logistic", "poisson"),
                "a random intercept is a linear, logistic or Poisson model's",
            ),
            (self.site == "fixed" and cox, "a Cox model is stratified by site already"),
            (
                self.site in ("fixed", "random") and not self.intercept,
                "sites' effects stand beside an intercept",
            ),
            (self.link == "inverse" and not self.intercept, "an inverse link needs an intercept"),
            (self.site == "random" and self.weights, "a random intercept takes no weights"),
            (cox and not self.intercept, "a Cox model has no intercept to leave out"),
            (self.robust == "HC1" and cox, "a Cox model's robust standard errors are HC0 or site"),
            (self.robust and self.site == "random", "a random intercept has no robust errors"),
            (
                self.robust == "site" and self.site == "each",
                "a site's own fit has no standard errors by site",
            ),
        ):
            if wrong:
                raise ValueError(sentence)
        explaining = {name for term in self.terms for name in term.variables}
        explained = [n for n in (self.outcome, self.event, self.entry) if n is not None]
        if set(explained) & explaining or len(set(explained)) != len(explained):
            raise ValueError("a variable can't explain itself")
        offset = {factor.variable for factor in self.offset}
        if self.weights in {*explained, *explaining, *offset} or set(self.strata) & {
            *explained,
            *explaining,
        }:
            raise ValueError("a variable has two parts in a model")
        if set(explained) & offset:
            raise ValueError("a variable can't explain itself")
        return self

    @property
    def shows_sites(self) -> bool:
        """Whether a fit tells what is a single site's: so do products of few sites' scores."""
        return self.site != "pooled" or self.robust == "site"

    @property
    def is_checked(self) -> bool:
        """Whether the fit of a Cox model is checked at its end."""
        return self.family == "cox" and self.site == "pooled"

    @property
    def has_ending(self) -> bool:
        """Whether sites are asked for more once the coefficients stay: checks, scores."""
        return self.is_checked or self.robust is not None

    @property
    def variables(self) -> tuple[str, ...]:
        """All variables of the model, in one order."""
        named = [
            self.outcome,
            self.event,
            self.entry,
            self.weights,
            *self.strata,
            *(factor.variable for factor in self.offset),
            *(name for term in self.terms for name in term.variables),
        ]
        return tuple(dict.fromkeys(name for name in named if name is not None))
