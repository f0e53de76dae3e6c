"""A model's coefficients, worked out by the site itself from totals that it works out itself.

As in ``node.work.coefficients`` nobody tells this site coefficients; but it is not shown the other
sites' parts either. What it is shown of a step is every site's masked vector, under that site's
receipt, and the seeds of their own masks: of these it makes the total, and of the total the
coefficients of the next step (``contract.statistics.summed_steps``).

Guarantee: with at most ``2 t - n - 1`` of the n sites working with the coordinator, nobody learns
more of this site's parts than each step's total over one set of sites, of which there are at least
``fewest``, and all are in each sum. Once this site has confirmed who is in a sum of the fit, it
takes part in none over other sites: no two totals of a job can be subtracted to tell a site's part.
The coefficients follow from sites' true parts, or there are none.
Assumptions: those of ``contract.secure_aggregation.client``, and that no site on the roster lies
about its own part for the coordinator's sake.

Why one set: a sum is learned by the shares of t sites, one of them honest at least, and that one
gives none before all sites of the sum have confirmed it. So all honest ones have, and each of them
is in sums over these sites only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from contract import wire_pb2 as wire
from contract.errors import DocumentError, Refused
from contract.keys import SigningKey
from contract.models import Model
from contract.secure_aggregation import Client, encoding
from contract.secure_aggregation.encoding import Answer
from contract.secure_aggregation.masking import Words
from contract.secure_aggregation.messages import Survivors
from contract.statistics import model_words, summed_steps
from contract.statistics.fitting import Fitting
from contract.statistics.regression import Vector
from contract.statistics.steps import MOST_RESTARTS
from contract.statistics.steps import Terms as FitTerms
from contract.statistics.summed_steps import UNMASKING, VECTORS, SumTask

OUT_OF_ORDER = Refused("out-of-order", "The steps of a model came in another order.")
FORGOTTEN = Refused("restarted", "This site forgot the keys of the secure sum.")


@dataclass(frozen=True)
class Summing:
    """The sum that is under way: of which step, over which sites, at which coefficients."""

    task: SumTask
    sites: tuple[str, ...]
    client: Client
    fitting: Fitting
    follows: bytes
    check: bool

    @property
    def beta(self) -> Vector:
        """The step's coefficients."""
        return self.fitting.beta


class SummedCoefficients:
    """The sums of one fit at the site ``site``; ``key`` is the site's on the roster.

    ``fewest`` is the fewest sites of a sum by this site's policy, ``powers`` what
    ``model_words.exponents`` returned, and ``accept`` raises for coefficients that can't be.
    """

    def __init__(
        self,
        model: Model,
        powers: tuple[int, ...],
        site: str,
        key: SigningKey,
        terms: Callable[[], FitTerms],
        fewest: Callable[[], int],
        accept: Callable[[Vector], None] = lambda _: None,
    ) -> None:
        self._model = model
        self._powers = powers
        self._width = len(powers) - (model.family == "linear")
        self._site = site
        self._key = key
        self._terms = terms
        self._fewest = fewest
        self._accept = accept
        self._now: Summing | None = None
        self._settled: tuple[str, ...] | None = None
        """The sites of the sum that this one confirmed."""

    def answer(
        self, task: SumTask, step: wire.SumStep, words: Callable[[Vector, bool], Words]
    ) -> Answer:
        """Take a phase of a sum. ``words`` returns this site's at coefficients, or its checks'.

        ``Refused`` or ``DocumentError`` when it can't be taken; the sum is then over.
        """
        kind = step.WhichOneof("step")
        if kind == "terms":
            if task.phase != 1:
                raise OUT_OF_ORDER
            self._now = self._begun(task, step.terms)
            return self._now.client.advertise()
        now = self._now
        if now is None:
            raise FORGOTTEN
        if task != now.task.at(task.phase) or kind != _KINDS.get(task.phase):
            raise OUT_OF_ORDER
        client = now.client
        match task.phase:
            case 2:
                return tuple(client.share(encoding.introduction(step.keys)))
            case summed_steps.VECTORS:
                shares = encoding.shares(step.shares)
                return client.mask(shares, words(now.beta, now.check))
            case 4:
                confirmed = client.confirm(Survivors(tuple(step.survivors.members)))
                self._settled = now.sites
                return confirmed
            case _:
                # That each is of another site of the sum, and true, is for the client to check.
                if len(step.confirmations.confirmations) < len(now.sites):
                    raise Refused("too-few-sites", "Not all sites of the sum confirmed it.")
                return client.unmask(encoding.confirmations(step.confirmations))

    def _begun(self, task: SumTask, said: wire.SumTerms) -> Summing:
        """Return the sum that begins, once its sites and coefficients are as they must be."""
        sites = tuple(sorted(said.sites))
        fit = self._terms()
        least = max(self._fewest(), fit.question.minimum_sites, fit.project.minimum_sites)
        if len(sites) < least or said.minimum != len(sites):
            raise Refused("too-few-sites", "The secure sum is over fewer sites than allowed here.")
        if self._site not in sites:
            raise DocumentError("A step of a model is without this site's part.")
        if self._settled is not None and sites != self._settled:
            raise Refused("other-sites", "The model's sums were over other sites before.")
        before = self._now
        if task.step == 0:
            fitting, follows = self._first(task, said, before, sites)
        else:
            if before is None:
                raise FORGOTTEN
            fitting, follows = self._next(task, said, before, fit)
        self._accept(fitting.beta)
        terms = summed_steps.terms(
            fit, self._model, self._width, task, sites, follows, check=said.check
        )
        return Summing(task, sites, Client(terms, self._key), fitting, follows, said.check)

    def _first(
        self, task: SumTask, said: wire.SumTerms, before: Summing | None, sites: tuple[str, ...]
    ) -> tuple[Fitting, bytes]:
        if said.HasField("before") or said.check:
            raise DocumentError("The first step of a model is told something.")
        if self._settled is not None or task.attempt > MOST_RESTARTS:
            raise OUT_OF_ORDER
        if before is not None and not (
            task.attempt > before.task.attempt and set(sites) <= set(before.sites)
        ):
            raise OUT_OF_ORDER
        return Fitting(self._model, self._width), b""

    def _next(
        self, task: SumTask, said: wire.SumTerms, before: Summing, fit: FitTerms
    ) -> tuple[Fitting, bytes]:
        if task != SumTask(before.task.step + 1, before.task.attempt) or before.check:
            raise OUT_OF_ORDER
        if self._model.family == "linear" and not (said.check and self._model.has_ending):
            raise OUT_OF_ORDER
        vectors = summed_steps.vectors_of(said.before, before.task, fit, before.client.terms)
        total = before.client.recount(vectors, list(said.before.seeds))
        fitting = copy.copy(before.fitting)
        fitting.take([model_words.decode(total, self._model, self._width, self._powers)])
        return fitting, summed_steps.digest_of(total, before.follows)


_KINDS = {2: "keys", VECTORS: "shares", 4: "survivors", UNMASKING: "confirmations"}
