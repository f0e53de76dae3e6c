"""A model's coefficients, worked out by the site itself from what all sites said a step before.

Guarantee: nobody tells this site coefficients. Those of the first step are fixed; those of every
later one follow from parts of the step before that their sites signed for this job
(``contract.statistics.steps``), of the same sites throughout, this one among them with exactly what
it said, and as many as job and project want. Each part names the parts that it followed from, which
must be one for all sites. The coordinator chooses which sites these are, once, and when some leave,
which of them are left.
Assumption: no site on the roster lies about its own part for the coordinator's sake.

Sites' processors differ in the last digit of a sum, and so do the coefficients that sites take. A
step made of such parts is the step at one of them, to within as much, and the next one mends it.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from contract import wire_pb2 as wire
from contract.errors import DocumentError, Refused
from contract.models import Model
from contract.statistics import models, steps
from contract.statistics.models import Fitting
from contract.statistics.regression import Vector
from contract.statistics.steps import Step, Terms

OUT_OF_ORDER = Refused("out-of-order", "The steps of a model came in another order.")


def takes_steps(model: Model) -> bool:
    """Say whether anything of a fit follows its first step: a linear model's only what ends it."""
    return model.family != "linear" or model.has_ending


@dataclass(frozen=True)
class Place:
    """Where a fit is at this site: a step, its coefficients, and the sites; None before the second
    step says which. ``number`` is this site's place among them, ``told`` the digest of what they
    said; empty at the first step."""

    step: Step
    fitting: Fitting
    sites: frozenset[str] | None
    number: int = 0
    told: bytes = b""

    @property
    def beta(self) -> Vector:
        """The step's coefficients."""
        return self.fitting.beta_of(self.number)


class OwnCoefficients:
    """The coefficients of one fit, step by step, at the site ``site``."""

    def __init__(self, model: Model, width: int, site: str, terms: Callable[[], Terms]) -> None:
        self._model = model
        self._width = width
        self._site = site
        self._terms = terms
        self._place: Place | None = None
        self._said = b""
        self._said_first = b""

    def at(self, step: Step, payload: bytes) -> Place:
        """Return where a step is; ``payload`` is what came with it.

        ``DocumentError`` when that isn't what the sites said, ``Refused`` when it isn't this step's
        turn. Nothing is changed before ``answered``.
        """
        if step.number == 0:
            if payload:
                raise DocumentError("The first step of a model is told something.")
            if self._place is not None:
                raise OUT_OF_ORDER
            return Place(step, Fitting(self._model, self._width), None)
        here = self._place
        if here is None or not takes_steps(self._model):
            raise OUT_OF_ORDER
        fitting, said, before = here.fitting, self._said, here.sites
        if step == Step(1, here.step.attempt + 1) and step.attempt <= steps.MOST_RESTARTS:
            fitting, said = Fitting(self._model, self._width), self._said_first
        elif step != Step(here.step.number + 1, here.step.attempt):
            raise OUT_OF_ORDER
        terms = self._terms()
        parts = steps.verified(payload, step, terms, self._width)
        self._check_sites(frozenset(parts), before, terms, again=step.attempt > here.step.attempt)
        if parts[self._site] != said:
            raise DocumentError("A step holds another part of this site than it gave.")
        follows = here.told if step.before.number else b""
        fitting = self._advanced(fitting, list(parts.values()), follows)
        return Place(
            step, fitting, frozenset(parts), list(parts).index(self._site), digest_of(parts)
        )

    def answered(self, place: Place, payload: bytes) -> None:
        """Remember that this site gave its part of a step."""
        self._place, self._said = place, payload
        if place.step.number == 0:
            self._said_first = payload

    def _check_sites(
        self, sites: frozenset[str], before: frozenset[str] | None, terms: Terms, *, again: bool
    ) -> None:
        if self._site not in sites:
            raise DocumentError("A step of a model is without this site's part.")
        if before is not None and not (sites < before if again else sites == before):
            raise DocumentError("A step of a model is of other sites than the one before.")
        if len(sites) < max(terms.question.minimum_sites, terms.project.minimum_sites):
            raise Refused("too-few-sites", "The model is of fewer sites than job and project want.")

    def _advanced(self, fitting: Fitting, parts: list[bytes], follows: bytes) -> Fitting:
        """Return a fit after a step whose parts follow from what ``follows`` is the digest of.

        One that has ended stays where it is: to another site, by the last digit, it may not have.
        """
        found = copy.copy(fitting)
        try:
            messages = [wire.ModelPart.FromString(one) for one in parts]
        except DecodeError:
            raise DocumentError("A part of a model is malformed.") from None
        if any(message.told != follows for message in messages):
            raise DocumentError("A step holds a part that follows from other parts than this one.")
        found.take([models.decode(one, self._model, self._width) for one in messages])
        return found


def digest_of(parts: Mapping[str, bytes]) -> bytes:
    """Return one digest of sites' parts, by their names in order."""
    found = hashlib.sha256()
    for site, part in parts.items():
        found.update(hashlib.sha256(site.encode()).digest() + hashlib.sha256(part).digest())
    return found.digest()
