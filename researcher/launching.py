"""Training across a consortium: starting it, coming back to it, and the models that it gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from contract.errors import DocumentError, NotFound
from contract.work import Scalar, SecureUpdates, TrainingWork
from researcher.connection import Connection
from researcher.registry import Registry
from researcher.training import TrainingHandle

TRAINING_LIFE = timedelta(days=7)
CLIP_NORM = 100.0
"""Longest update of a site in a secure sum, unless another is asked for."""


class Launching(Connection):
    """What a consortium can be asked to train, and what became of it."""

    def train(
        self,
        project: str,
        recipe: str,
        parameters: Mapping[str, Scalar] | None = None,
        *,
        seed: int = 0,
        start_from: str | Path | None = None,
        cross_evaluation: bool = False,
        sites: Sequence[str] | None = None,
        minimum_sites: int = 2,
        releases: Mapping[str, str] | None = None,
        engine: Literal["wardgate", "superlink"] = "wardgate",
        secure: bool = False,
        clip_norm: float = CLIP_NORM,
        noise_multiplier: float = 0.0,
        most_examples: int | None = None,
        bits: int = 26,
        sparse: bool = False,
    ) -> TrainingHandle:
        """Start a training job and return a handle with its progress, result and receipts.

        ``recipe`` is the name or bundle digest of a recipe that the project grants; ``parameters``
        override its run config within the project's ranges. ``engine`` carries the tasks.

        ``secure`` sums the sites' updates and metrics so that nobody sees a site's own, the
        coordinator included; it is of as many sites as their policies want, 5 or more. A site's
        update is clipped to the L2 norm ``clip_norm`` and written in ``bits`` bits a number; the
        sum holds noise of ``noise_multiplier`` times ``clip_norm``. No site may weigh with more
        than ``most_examples``: by default twice the subjects of the largest release, or as many
        with noise. ``sparse`` is for 200 sites and more, and a coordinator that is honest.

        ``start_from`` is a model of the project to begin with: by its digest in the registry, or
        as its file. ``cross_evaluation`` trains a model at each site and evaluates each at every
        site instead (see ``cross_evaluate``).
        """
        granted = next(
            (r for r in self.project(project).recipes if recipe in (r.name, r.bundle)), None
        )
        if granted is None:
            raise NotFound(f"Project {project} grants no recipe called {recipe}.")
        named = dict(releases) if releases is not None else self.newest(project, sites)
        updates = None
        if secure:
            largest = max(
                (r.subjects for r in self.releases() if r.digest in named.values()), default=1
            )
            most = max(largest, 1) if noise_multiplier else max(2 * largest, 1000)
            updates = _secure_updates(
                clip_norm=clip_norm, bits=bits, most_examples=most_examples or most,
                noise_multiplier=noise_multiplier, sparse=sparse,
            )  # fmt: skip
        try:
            work = TrainingWork(
                bundle=granted.bundle, parameters=dict(parameters or {}), seed=seed, engine=engine,
                secure=updates, cross_evaluation=cross_evaluation,
                start_from=None if start_from is None else self.registry.digest_of(start_from),
            )  # fmt: skip
        except ValidationError as error:
            raise DocumentError(f"The job can't be: {error.errors()[0]['msg']}.") from None
        job, envelope = self.sign(project, work, sites, minimum_sites, named, life=TRAINING_LIFE)
        digest = self._submit(envelope)
        return TrainingHandle(digest, job, self._stub, self._place.address, self._roster)

    def cross_evaluate(
        self,
        project: str,
        recipe: str,
        parameters: Mapping[str, Scalar] | None = None,
        **terms: Any,
    ) -> TrainingHandle:
        """Start a job that evaluates every site's own model at every site; ``terms`` as ``train``.

        Each site trains by itself, as many rounds as the recipe says, and its best model is
        evaluated at each; ``Matrix.of`` reads the rounds of the result as a table. A site's model
        leaves as an update does, through its gate. The project's grant of the recipe must allow it.
        """
        return self.train(project, recipe, parameters, cross_evaluation=True, **terms)

    @property
    def registry(self) -> Registry:
        """The finished models of our projects."""
        return Registry(self._stub, self._place.address, self._roster)

    def job(self, digest: str) -> TrainingHandle:
        """Return a handle on a training job that was started before."""
        return TrainingHandle(digest, None, self._stub, self._place.address, self._roster)


def _secure_updates(**values: Any) -> SecureUpdates:
    """Return how updates are summed; ``DocumentError`` names what doesn't fit."""
    try:
        return SecureUpdates(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise DocumentError(f"The job can't be: {first['loc'][0]}: {first['msg']}.") from None
