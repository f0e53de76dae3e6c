"""A fit under way: from all sites' parts of a step to the coefficients of the next, or the fit.

Pure, and the same wherever it runs: coordinator and sites each follow it for themselves. What
differs between sites is a matter of which combination of the fit's coefficients is a site's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from contract.errors import DocumentError
from contract.models import Model
from contract.statistics import least_squares, mixed_steps, regression, robust
from contract.statistics.cox import Checks, proportionality
from contract.statistics.design import Matrix
from contract.statistics.fit import Fit
from contract.statistics.least_squares import Factor
from contract.statistics.meta import pool
from contract.statistics.mixed import check_sites, fit_random_intercept
from contract.statistics.regression import Setting, State, Sums, Vector
from contract.statistics.robust import Scores

Part = Sums | Factor
NO_SCORES = DocumentError("A site told nothing to work robust standard errors out of.")


class Fitting:
    """The coefficients to ask next, until there is a fit.

    ``width`` is how many columns a site's matrix has; ``back`` makes the model's own coefficients
    of those of the steps (``contract.statistics.recoding``), for the fit. Parts come in one order
    of sites throughout; a site's place is its place there. State is only ever replaced, so that a
    copy is a snapshot.
    """

    def __init__(
        self,
        model: Model,
        width: int,
        names: Sequence[str] | None = None,
        back: Matrix | None = None,
    ) -> None:
        self.model = model
        self._width = width
        self._back = np.eye(width) if back is None else back
        cox = model.family == "cox"
        self._setting = Setting(
            intercept=model.intercept and not cox,
            offset=bool(model.offset),
            link=model.link,
            names=None if names is None else tuple(names),
        )
        begin = State(np.zeros(0)) if model.family == "linear" else self._start(width)
        self._states: tuple[State | Fit | str, ...] = (begin,)
        """One for all sites, or of ``each`` one a site."""
        self._own: tuple[Matrix, ...] = ()
        """Of fixed effects, how each site's coefficients follow from the fit's."""

    def _start(self, width: int) -> State:
        return regression.start(width, self.model.link)

    @property
    def beta(self) -> Vector:
        """The coefficients of the next step, of a model that is the same at all sites."""
        return self.beta_of(0)

    def beta_of(self, place: int) -> Vector:
        """Return the coefficients of the next step at the site of this place."""
        state = self._states[place if len(self._states) > 1 else 0]
        if isinstance(state, str):
            return np.zeros(self._width)
        beta = state.coefficients if isinstance(state, Fit) else state.beta
        return self._own[place] @ beta if self._own else beta

    def take(self, parts: Sequence[Part]) -> Fit | None:
        """Take all sites' parts of a step; return the fit if it was the last one.

        ``DocumentError`` says in a sentence why there can be no fit.
        """
        if not parts or not any(part.n for part in parts):
            raise DocumentError("No site has a part in the model.")
        if self.model.site == "fixed" and not self._own:
            self._own = _own(self._width, [part.n > 0 for part in parts])
        if self.model.family == "linear":
            return self._linear([part for part in parts if isinstance(part, Factor)])
        sums = [part for part in parts if isinstance(part, Sums)]
        if self.model.site == "each":
            return self._take_each(sums)
        if self.model.site == "random":
            return self._take_random(sums)
        if self._own:
            sums = [part.spread(own) for part, own in zip(sums, self._own, strict=True)]
            state = self._states[0]
            if isinstance(state, State) and len(state.beta) < self._own[0].shape[1]:
                self._states = (self._start(self._own[0].shape[1]),)
        found = self._advanced(self._states[0], reduce(Sums.merge, sums))
        if isinstance(found, str):
            raise DocumentError(found)
        self._states = (found,)
        return self._turned(self._without_sites(found)) if isinstance(found, Fit) else None

    def ended(self, checks: Sequence[Checks], scores: Sequence[Scores | None]) -> Fit:
        """Return the fit that the last step gave, with what sites told at its coefficients.

        ``checks`` are a Cox model's, or none; ``scores`` those of robust errors, if asked: None of
        a site that told none, of which there may be one only where each site has its own fit.
        """
        if scores and self.model.site == "each":
            each = [self._own_with(s, one) for s, one in zip(self._states, scores, strict=True)]
            return _pooled(self.model, each)
        [found] = self._states
        assert isinstance(found, Fit)
        if scores:
            told = [one for one in scores if one is not None]
            if len(told) < len(scores):
                raise NO_SCORES
            if self._own:
                told = [one.spread(own) for one, own in zip(told, self._own, strict=True)]
            found = self._with_scores(found, reduce(Scores.merge, told))
        fit = self._turned(self._without_sites(found))
        return _with_checks(fit, reduce(Checks.merge, checks), self._back) if checks else fit

    def _own_with(self, state: State | Fit | str, scores: Scores | None) -> Fit | str:
        """Return a site's own fit with its scores."""
        if not isinstance(state, Fit):
            return state if isinstance(state, str) else str(NO_SCORES)
        if scores is None:
            return str(NO_SCORES)
        try:
            return self._turned(self._with_scores(state, scores))
        except DocumentError as error:
            return str(error)

    def _with_scores(self, fit: Fit, scores: Scores) -> Fit:
        kind = self.model.robust
        assert kind is not None
        clusters = scores.sites if kind == "site" else 0
        return replace(fit, robust=robust.covariance(fit, scores, kind), clusters=clusters)

    def _turned(self, fit: Fit) -> Fit:
        """Return a fit in the model's own columns."""
        back = self._back
        return replace(
            fit,
            coefficients=back @ fit.coefficients,
            covariance=back @ fit.covariance @ back.T,
            robust=None if fit.robust is None else back @ fit.robust @ back.T,
        )

    def _take_each(self, parts: Sequence[Sums]) -> Fit | None:
        states = self._states
        if len(states) == 1 and len(parts) > 1:
            states = states * len(parts)
        self._states = tuple(
            self._advanced(state, part) for state, part in zip(states, parts, strict=True)
        )
        if any(isinstance(state, State) for state in self._states):
            return None
        ended = [s for s in self._states if not isinstance(s, State)]
        return _pooled(self.model, [s if isinstance(s, str) else self._turned(s) for s in ended])

    def _take_random(self, parts: Sequence[Sums]) -> Fit | None:
        """Take a step of the pooled fit, from which the others begin, or of those after it."""
        check_sites(parts)
        [state] = self._states
        assert isinstance(state, State)
        merged = reduce(Sums.merge, parts)
        if len(merged.score) != len(state.beta):
            raise DocumentError("A part of a model has another form than its step.")
        if len(state.beta) == self._width:
            pooled = self._advanced(state, merged)
            if isinstance(pooled, str):
                raise DocumentError(pooled)
            self._states = (mixed_steps.begin(pooled, merged),)
            return None
        found = mixed_steps.advance(self.model.family, state, merged, self._setting.names)
        if isinstance(found, State):
            self._states = (found,)
            return None
        # To another site, by the last digit, it may not have ended: the state stays.
        # The mean of a site's intercept, given its outcomes: the score times the variance.
        effects = tuple(found.site_variance * float(part.score[0]) for part in parts)
        return replace(self._turned(found), site_effects=effects)

    def _advanced(self, state: State | Fit | str, merged: Sums) -> State | Fit | str:
        """Return what follows, or why nothing can."""
        if not isinstance(state, State):
            return state
        if not merged.n:
            return "It has no rows of the model."
        try:
            return regression.advance(self.model.family, state, merged, self._settings(state))
        except DocumentError as error:
            return str(error)

    def _settings(self, state: State) -> Setting:
        names = self._setting.names
        if names is None or len(state.beta) == len(names):
            return self._setting
        return replace(self._setting, names=_and_sites(names, len(state.beta)))

    def _linear(self, parts: Sequence[Factor]) -> Fit:
        intercept, names = self._setting.intercept, self._setting.names
        match self.model.site:
            case "random":
                mixed = fit_random_intercept(parts, self.model.method, names)
                return replace(
                    self._turned(mixed.fit),
                    site_variance=mixed.site_variance,
                    site_effects=tuple(float(one) for one in mixed.effects),
                )
            case "each":
                found: list[Fit | str] = []
                for part in parts:
                    try:
                        own = least_squares.finish_linear(part, intercept=intercept, names=names)
                        found.append(own)
                    except DocumentError as error:
                        found.append(str(error))
                self._states = tuple(found)
                return _pooled(
                    self.model, [s if isinstance(s, str) else self._turned(s) for s in found]
                )
            case "fixed":
                parts = [part.spread(own) for part, own in zip(parts, self._own, strict=True)]
                if names is not None:
                    names = _and_sites(names, self._own[0].shape[1])
        merged = least_squares.merged(parts)
        fit = least_squares.finish_linear(merged, intercept=intercept, names=names)
        self._states = (fit,)
        return self._turned(self._without_sites(fit))

    def _without_sites(self, fit: Fit) -> Fit:
        """Return a fit with the sites' effects beside the coefficients; its degrees stay."""
        if not self._own:
            return fit
        width = self._width
        effects = tuple(float(own[0, width:] @ fit.coefficients[width:]) for own in self._own)
        return replace(
            fit,
            coefficients=fit.coefficients[:width],
            covariance=fit.covariance[:width, :width],
            robust=None if fit.robust is None else fit.robust[:width, :width],
            site_effects=effects,
            effects_fitted=len(fit.coefficients) - width,
        )


def _with_checks(fit: Fit, merged: Checks, back: Matrix) -> Fit:
    """Return a Cox model's fit with what its checks tell; ``back`` is as ``Fitting`` has it."""
    merged = merged.turned(np.asarray(np.linalg.inv(back), dtype=np.float64))
    information = np.asarray(np.linalg.inv(fit.covariance), dtype=np.float64)
    return replace(
        fit,
        proportionality=tuple(float(c) for c in proportionality(merged, information)),
        pairs=(merged.concordant, merged.discordant, merged.tied),
    )


def _own(width: int, has_rows: Sequence[bool]) -> tuple[Matrix, ...]:
    """Return, for each site, the matrix that makes its coefficients from all.

    Beside the ``width`` common ones there is one for each site with rows but the first: what is
    added to the intercept there.
    """
    held = [place for place, has in enumerate(has_rows) if has][1:]
    found = []
    for place in range(len(has_rows)):
        own = np.zeros((width, width + len(held)))
        own[:, :width] = np.eye(width)
        if place in held:
            own[0, width + held.index(place)] = 1.0
        found.append(own)
    return tuple(found)


def _and_sites(names: Sequence[str], width: int) -> tuple[str, ...]:
    return (*names, *["of a site"] * (width - len(names)))


def _pooled(model: Model, each: Sequence[Fit | str]) -> Fit:
    """Return random effects' coefficients of sites' own fits, each coefficient by itself."""
    fits = [one for one in each if isinstance(one, Fit) and one.converged]
    if not fits:
        said = sorted({one for one in each if isinstance(one, str)})
        raise DocumentError(said[0] if said else "No site's own fit converged.")
    coefficients, variances = [], []
    for place in range(len(fits[0].coefficients)):
        pooled = pool(
            [float(fit.coefficients[place]) for fit in fits],
            [float(fit.errors[place]) for fit in fits],
            "reml",
        )
        coefficients.append(pooled.estimate)
        variances.append(pooled.standard_error**2)
    return Fit(
        model.family,
        sum(fit.n for fit in fits),
        np.array(coefficients),
        np.diag(variances),
        math.nan,
        sum(fit.deviance for fit in fits),
        max(fit.steps for fit in fits),
        True,
        sum(fit.null_deviance for fit in fits),
        sum(fit.log_likelihood for fit in fits),
        sum(fit.events for fit in fits),
        each=tuple(each),
    )
