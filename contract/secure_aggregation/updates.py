"""A round of training as words of a secure sum: updates and metrics, weighted by examples.

A site's words are, in this order: its number of examples ``w`` (two words of 16 bits and more); for
each metric that the project gives a range, whether the site has it and its value from the range's
minimum on, times ``w / most_examples``; and its update, clipped to ``clip_norm``, times the same.
Numbers are whole steps of a grid, and adding whole numbers rounds nothing: the same sites give the
same mean, bit for bit, whoever adds them up and in whatever order.

The mean's error by the grid is at most half a step for each site in it, times ``most_examples`` and
over the examples of all; a step is ``clip_norm / (2^(bits - 1) - 1)`` without noise.

Noise. With a ``noise_multiplier`` z each site adds a discrete Gaussian draw to each word but those
of examples and presence. Guarantee: whoever sees the sum, and is one of at most ``dishonest`` sites
or in league with them, learns of a site's data no more than by a Gaussian release with multiplier
z / 2 of all updates and another of all metrics (``node.gate.account``), whatever is changed in that
site's data, one record or all. Nobody is trusted with the numbers before noise.

Assumptions: those of the secure sum; at least ``honest`` of the survivors, ``minimum - dishonest``,
add their noise; the weight is public (with noise it is the release's published number of subjects);
which metrics a recipe reports doesn't depend on the data. Each site's share has the variance that
makes ``honest`` of them enough; all together, they add more.

Why the shares add up to what one draw would give: with standard deviation s steps each, n sites and
d words, the sum is (1/2) e^2-concentrated differentially private with ``e = D / (s sqrt(n)) + tau
sqrt(d)``, where D is how far a site's words can move and ``tau = 10 sum_k exp(-2 pi^2 s^2 k / (k +
1))`` over k from 1 to n - 1. With s of 262,146 steps tau is below 1e-10000000000, and e that of one
Gaussian. Source: Kairouz, Liu and Steinke 2021, "The Distributed Discrete Gaussian Mechanism for
Federated Learning with Secure Aggregation", theorem 1; Canonne, Kamath and Steinke 2020, "The
Discrete Gaussian for Differential Privacy". No rotation and no conditional rounding is needed: the
grid is so fine that values are cut towards zero on it, which makes no update longer, and words are
so wide that no sum wraps around.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from contract.documents import MetricRange
from contract.errors import DocumentError, Refused
from contract.secure_aggregation.graph import degree
from contract.secure_aggregation.masking import Words
from contract.secure_aggregation.messages import Participant, Terms, smallest_threshold
from contract.work import SecureUpdates

NOISE_STEPS = 1024 * math.sqrt(1 + 256**2)
"""Standard deviation of one site's share of the noise, in steps of the grid."""
GAMMA, DELTA = 0.2, 0.1
"""Of a sparse sum: the shares of sites that the server reads along with, and that drop out."""
SPARSE_SITES = 200
"""Fewest sites of a sparse sum."""
EXAMPLES = "num-examples"
_TAIL = 12.0
"""Standard deviations of noise for which a word has room: 1e-32 of a chance for each."""
_LOW_BITS = 16
_PIECE = 1 << 18
_BELOW = 1 - 1e-9
Shapes = Mapping[str, tuple[int, ...]]
Numbers = NDArray[np.floating]
Draw = Callable[[int, int], NDArray[np.integer]]
"""Returns so many draws of the noise from a place on: ``draw(place, count)``."""


def plan(sites: int, minimum_sites: int, *, sparse: bool, at_least: int = 0) -> tuple[int, int]:
    """Return (threshold, minimum) of a sum over so many sites, as the coordinator proposes them.

    ``at_least`` is the threshold of the round's first attempt.
    """
    if sparse:
        if sites < SPARSE_SITES:
            raise DocumentError(f"A sparse sum is over {SPARSE_SITES} sites at least.")
        left = sites - math.floor(2 * DELTA * sites)
        return degree(sites, GAMMA, DELTA).threshold, max(left, minimum_sites)
    threshold = max(smallest_threshold(sites), at_least)
    return threshold, max(threshold, minimum_sites, 2)


def terms(
    *,
    job: str,
    round_name: str,
    attempt: int,
    message: str,
    participants: Sequence[Participant],
    threshold: int,
    minimum: int,
    sparse: bool,
    words: SumOfUpdates,
) -> Terms:
    """Return the terms of one attempt at the sum of a round.

    ``job`` is the job's digest, ``round_name`` what its sites all call the round, ``message`` is
    ``digest_of_message``: sites that were sent different models have different terms, and
    their sum comes to nothing (Pasquini et al., "Eluding Secure Aggregation in Federated Learning
    via Model Inconsistency", CCS 2022).
    """
    session = hashlib.sha256(b"wardgate training sum\0")
    for part in (job, round_name, str(attempt), message):
        session.update(part.encode() + b"\0")
    return Terms(
        session=session.digest(),
        participants=tuple(sorted(participants, key=lambda p: p.name)),
        minimum=minimum,
        length=words.length,
        word=words.word,
        threshold=threshold,
        degree=degree(len(participants), GAMMA, DELTA).neighbours if sparse else 0,
    )


def digest_of_message(message_type: str, payload: bytes) -> str:
    """Return the SHA-256 of what a site was told: which of its app's functions, and with what."""
    return hashlib.sha256(message_type.encode() + b"\0" + payload).hexdigest()


def graph_seed(agreed: Terms) -> bytes:
    """Return the seed of a sparse sum's graph, which is public; empty for the complete one."""
    return hashlib.sha256(b"graph" + agreed.digest).digest() if agreed.degree else b""


@dataclass(frozen=True)
class Mean:
    """What a sum tells: the weighted means, and over how many examples.

    ``of_some``: metrics that not all sites have, and how many do. A sum can't tell their mean, for
    the examples of the sites that lack one are in it.
    """

    update: dict[str, NDArray[np.float64]]
    metrics: dict[str, float]
    examples: int
    of_some: dict[str, int]


@dataclass(frozen=True)
class SumOfUpdates:
    """The words of one attempt at a round's sum.

    ``shapes`` are those of the message's arrays of floats, in order: others aren't updated.
    ``ranges`` are the project's, of the metrics that are summed; ``sites`` how many may take part.
    """

    work: SecureUpdates
    shapes: Shapes
    ranges: Mapping[str, MetricRange]
    sites: int
    minimum: int
    threshold: int

    def __post_init__(self) -> None:
        if self.honest < 1:
            raise DocumentError("A secure sum needs more sites than may be dishonest.")
        if self._needed > 64:
            raise DocumentError("A secure sum over so many sites needs fewer bits a value.")

    # ---- the form ------------------------------------------------------------------------------

    @property
    def dishonest(self) -> int:
        """How many sites may work with the coordinator."""
        if self.work.sparse:
            return math.floor(GAMMA * self.sites)
        return 2 * self.threshold - self.sites - 1

    @property
    def honest(self) -> int:
        """How many sites add their noise at least."""
        return self.minimum - self.dishonest

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that are summed, in order."""
        return tuple(sorted(set(self.ranges) - {EXAMPLES}))

    @property
    def length(self) -> int:
        """How many words a site has."""
        return self._head + sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def _head(self) -> int:
        return 2 + 2 * len(self.metrics)

    @property
    def step(self) -> float:
        """The distance of the grid of updates."""
        if self.work.noise_multiplier:
            sigma = self.work.noise_multiplier * self.work.clip_norm / math.sqrt(self.honest)
            return sigma / NOISE_STEPS
        return self.work.clip_norm / self._half

    def metric_step(self, metric: str) -> float:
        """The distance of the grid of a metric."""
        allowed = self.ranges[metric]
        width = allowed.maximum - allowed.minimum
        if self.work.noise_multiplier:
            # All metrics together are one release of the multiplier z / 2.
            total = self.work.noise_multiplier / 2 * width * math.sqrt(len(self.metrics))
            return total / math.sqrt(self.honest) / NOISE_STEPS
        return width / self._half

    @property
    def _half(self) -> int:
        return (1 << (self.work.bits - 1)) - 1

    @cached_property
    def _needed(self) -> int:
        """Bits of the largest sum, with its sign."""
        largest = float(self._half)
        noise = 0.0
        if self.work.noise_multiplier:
            a_site = math.sqrt(self.honest) * NOISE_STEPS / self.work.noise_multiplier
            largest = 2 * a_site  # a metric's range is at most two of an update's
            noise = _TAIL * math.sqrt(self.sites) * NOISE_STEPS
        examples = (self.work.most_examples >> _LOW_BITS) + (1 << _LOW_BITS)
        most = max(self.sites * largest + noise, self.sites * float(examples))
        return math.ceil(math.log2(most)) + 1

    @property
    def word(self) -> int:
        """Bits of a word: 32 or 64."""
        return 32 if self._needed <= 32 else 64

    # ---- a site's words ------------------------------------------------------------------------

    def encode(
        self,
        update: Mapping[str, Numbers],
        metrics: Mapping[str, float],
        examples: int,
        draw: Draw | None = None,
    ) -> Words:
        """Return a site's words. ``draw`` gives its share of the noise, from a place on.

        ``Refused`` for what can't be summed: an update of another form or that isn't finite, more
        examples than the job says.
        """
        assert (draw is not None) == bool(self.work.noise_multiplier)
        if {k: a.shape for k, a in update.items()} != dict(self.shapes):
            raise Refused("undeclared-output", "The update is not like what was received.")
        if not 0 <= examples <= self.work.most_examples:
            raise Refused("too-many-examples", "The site has more examples than the job says.")
        share = examples / self.work.most_examples
        words: Words = np.zeros(self.length, np.dtype(f"u{self.word // 8}"))
        signed = words.view(np.dtype(f"i{self.word // 8}"))
        signed[0] = examples & ((1 << _LOW_BITS) - 1)
        signed[1] = examples >> _LOW_BITS
        for index, metric in enumerate(self.metrics):
            place = 2 + 2 * index
            value = metrics.get(metric)
            if value is not None:
                allowed = self.ranges[metric]
                if not allowed.minimum <= value <= allowed.maximum:
                    raise Refused("out-of-range", "A metric is outside its declared range.")
                signed[place] = 1
                within = np.array([(value - allowed.minimum) * share])
                signed[place + 1] = self._steps(within, self.metric_step(metric))[0]
            if draw is not None:
                signed[place + 1] += int(draw(place + 1, 1)[0])
        scale = self._scale(update) * share
        place = self._head
        for key in self.shapes:
            flat = update[key].reshape(-1)
            for start in range(0, flat.size, _PIECE):
                piece = flat[start : start + _PIECE].astype(np.float64) * scale
                steps = self._steps(piece, self.step)
                if draw is not None:
                    steps += draw(place, steps.size)
                signed[place : place + steps.size] = steps
                place += steps.size
        return words

    def _steps(self, values: NDArray[np.float64], step: float) -> NDArray[np.int64]:
        """Return values on the grid; with noise towards zero, so that none gets longer."""
        on = np.trunc if self.work.noise_multiplier else np.rint
        steps: NDArray[np.int64] = on(values / step).astype(np.int64)
        return steps

    def _scale(self, update: Mapping[str, Numbers]) -> float:
        """Return what an update is multiplied by to be at most ``clip_norm`` long."""
        total = 0.0
        for array in update.values():
            flat = array.reshape(-1)
            for start in range(0, flat.size, _PIECE):
                piece = flat[start : start + _PIECE].astype(np.float64)
                total += float(np.add.reduce(piece * piece))
        if not math.isfinite(total):
            raise Refused("not-finite", "An array holds a value that is not finite.")
        length = math.sqrt(total)
        limit = self.work.clip_norm * _BELOW
        return limit / length if length > limit else 1.0

    # ---- the total -----------------------------------------------------------------------------

    def decode(self, total: Words, survivors: int) -> Mean:
        """Return the means over the sites that are in the sum."""
        if total.shape != (self.length,):
            raise DocumentError("A secure sum has another length than its round.")
        signed = total.view(np.dtype(f"i{self.word // 8}"))
        examples = int(signed[0]) + (int(signed[1]) << _LOW_BITS)
        if examples <= 0:
            raise DocumentError("The sites of a secure sum have no examples.")
        if examples > survivors * self.work.most_examples:
            raise DocumentError("A site put more into a secure sum than it may.")
        each = self.work.most_examples / examples
        metrics: dict[str, float] = {}
        of_some: dict[str, int] = {}
        for index, metric in enumerate(self.metrics):
            place = 2 + 2 * index
            if 0 < (having := int(signed[place])) < survivors:
                of_some[metric] = having
            elif having == survivors:
                allowed = self.ranges[metric]
                mean = int(signed[place + 1]) * self.metric_step(metric) * each
                metrics[metric] = min(max(allowed.minimum + mean, allowed.minimum), allowed.maximum)
        update, place = {}, self._head
        for key, shape in self.shapes.items():
            size = math.prod(shape)
            mean_of = signed[place : place + size].astype(np.float64) * (self.step * each)
            update[key] = mean_of.reshape(shape)
            place += size
        if not self.work.noise_multiplier:
            length = math.sqrt(sum(float(np.vdot(a, a)) for a in update.values()))
            rounded = math.sqrt(self.length) * survivors * self.step * each / 2
            if length > self.work.clip_norm * (1 + 1e-6) + rounded:
                raise DocumentError("A site put more into a secure sum than it may.")
        return Mean(update, metrics, examples, of_some)
