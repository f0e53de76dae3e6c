"""The second table: may this answer leave? Rules run in order; the first that objects decides."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from contract import wire_pb2 as wire
from contract.documents import RecipeGrant
from contract.errors import DocumentError, Refused
from contract.records import Arrays, Config, Metrics, Records, Value
from contract.statistics import ending, forms
from contract.statistics.answers import Part, Summary
from contract.statistics.summaries import Counts
from contract.work import StatisticsWork, Work
from foundation import tensors
from node.gate.older_apps import ARRAYS_NAME, METRICS_NAME, in_todays_form
from node.gate.policy import DisclosureSettings
from node.gate.rules import BeforeEgress, ModelOutput, Outbound, StatisticsOutput, TrainingOutput

Form = dict[str, tuple[str, tuple[int, ...]]]
"""The dtype and shape of each array of a group."""

ARRAYS, METRIC = "undeclared-arrays", "undeclared-metric"
"""Codes of what a recipe's author most often has to mend; the researcher sees no more."""


class DeclaredSchema:
    """What leaves has exactly the form that the question implies, and nothing beside it.

    Statistics: the groups and grids of the dictionary. Training: one group of arrays with the
    names, dtypes and shapes that were received (none but for ``train``), and one of metrics with
    the names that the project grants. The groups are called "arrays" (or as one that was received)
    and "metrics" (or as the project grants). Everything is finite, and a metric within the range
    that the project declares for it, a list at most as long. The bytes are those of the records
    and no others.

    Where the project grants ``max_model_bytes``, a single array of bytes may have another length.
    It can't be treated, so it doesn't leave where the policy treats updates (``treat_reply``).

    Guarantee: a recipe has no other channel than the numbers in declared places; an array of bytes
    is a wider one. Assumption: none about the recipe. What those numbers tell is not bounded by
    their form: a recipe can write what it saw into weights.
    Source: Song, Ristenpart and Shmatikov 2017, "Machine learning models that remember too much".
    """

    code = "undeclared-output"

    def check(self, outbound: Outbound) -> None:
        """Refuse another form."""
        output = outbound.output
        if isinstance(output, StatisticsOutput):
            work = outbound.job.work
            assert isinstance(work, StatisticsWork)
            if not forms.fits(output.parts, work.ask, outbound.project):
                raise Refused(self.code, "The answer hasn't the declared form.")
            return
        if isinstance(output, ModelOutput):
            work = outbound.job.work
            assert isinstance(work, StatisticsWork) and work.fit is not None
            try:
                ending.check_form(output.part, work.fit, output.width)
            except DocumentError:
                raise Refused(self.code, "The part of a model hasn't the declared form.") from None
            return
        self._check_records(output)
        if not outbound.laid_out_here and not is_canonical(
            output.records, outbound.message, outbound.tensors
        ):
            raise Refused(self.code, "The reply holds bytes beside its records.")

    def _check_records(self, output: TrainingOutput) -> None:
        records = in_todays_form(output.records)
        kinds = [type(record) for record in records.values()]
        if Config in kinds:
            raise Refused(self.code, "A reply may hold no config record.")
        if kinds.count(Metrics) > 1 or kinds.count(Arrays) > 1:
            raise Refused(self.code, "A reply may hold one record of arrays and one of metrics.")
        received = [dict(group) for group in output.received.values()]
        for name, record in records.items():
            if isinstance(record, Arrays):
                declared = {ARRAYS_NAME, *output.received}
            else:
                declared = {METRICS_NAME, *output.grant.metric_records}
            if name not in declared:
                raise Refused(self.code, "A record's name is not the declared one.")
            if isinstance(record, Arrays):
                if not output.message_type.startswith("train"):
                    raise Refused(ARRAYS, "Only training may send arrays.")
                form = {k: (a.dtype.name, a.shape) for k, a in record.items.items()}
                if output.grant.max_model_bytes and _is_of_bytes(form):
                    self._check_bytes(form, received, output)
                elif form not in received:
                    raise Refused(ARRAYS, "The arrays are not like those that were received.")
                if not all(_finite(array) for array in record.items.values()):
                    raise Refused("not-finite", "An array holds a value that is not finite.")
            else:
                for metric, value in record.items.items():
                    self._check_metric(metric, value, output.grant)

    def _check_bytes(self, form: Form, received: Sequence[Form], output: TrainingOutput) -> None:
        [(name, (_, (length,)))] = form.items()
        if not any(_is_of_bytes(group) and name in group for group in received):
            raise Refused(ARRAYS, "The arrays are not like those that were received.")
        if length > output.grant.max_model_bytes:
            raise Refused(ARRAYS, "A model of bytes is longer than the project grants.")

    def _check_metric(self, metric: str, value: Value, grant: RecipeGrant) -> None:
        if metric not in grant.metrics:
            raise Refused(METRIC, "A metric's name is not declared by the project.")
        values = [value]
        if isinstance(value, list) and metric in grant.metric_lengths:
            values = list(value)
            if len(values) > grant.metric_lengths[metric]:
                raise Refused(METRIC, "A metric is a longer list than the project grants.")
        for number in values:
            if not isinstance(number, int | float) or isinstance(number, bool):
                raise Refused(METRIC, "A metric is not a single number.")
            if not np.isfinite(number):
                raise Refused("not-finite", "A metric is not finite.")
            allowed = grant.metric_ranges.get(metric)
            if allowed is not None and not allowed.minimum <= number <= allowed.maximum:
                raise Refused("out-of-range", "A metric is outside its declared range.")


def _is_of_bytes(form: Form) -> bool:
    """Say whether a group of arrays is a single one of bytes, in one dimension."""
    return [(dtype, len(shape)) for dtype, shape in form.values()] == [("uint8", 1)]


def is_canonical(records: Records, message: wire.RecordDict, blob: bytes) -> bool:
    """Say whether message and blob are what these records are encoded as, to the byte.

    Otherwise text could leave in what decoding passes over: unknown protobuf fields, entries of a
    record of arrays, a safetensors header's metadata, gaps between tensors.
    """
    said = tensors.lay_out(records)
    if said.message.tensors.size != len(blob):
        return False
    if blob:
        with ThreadPoolExecutor(1) as beside:  # hashing takes as long as all the rest
            digest = beside.submit(lambda: hashlib.sha256(blob).hexdigest())
            if not _is_same(said.pieces, blob):
                return False
            said.message.tensors.digest = digest.result()
    return message.SerializeToString(deterministic=True) == said.message.SerializeToString(
        deterministic=True
    )


def _is_same(pieces: Sequence[bytes | memoryview], blob: bytes) -> bool:
    start = 0
    for piece in pieces:
        size = len(piece)
        words = np.uint32 if size % 4 == 0 else np.uint8  # four bytes at once, if that comes out
        sent = np.frombuffer(blob, words, size // np.dtype(words).itemsize, start)
        if not np.array_equal(sent, np.frombuffer(piece, words)):
            return False
        start += size
    return True


def _finite(array: NDArray[np.generic]) -> bool:
    if array.dtype.kind != "f":
        return True
    with np.errstate(all="ignore"):
        # A finite sum has finite terms; only an overflow needs the slower look.
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


class DeclaredSize:
    """What leaves is not larger than policy and project allow.

    Guarantee: no payload, whatever it means, carries more bytes than the hospital agreed to.
    Assumption: none; every byte that would leave is counted.
    Source: Song, Ristenpart and Shmatikov 2017: what a model can carry off grows with its size.
    """

    code = "too-large"

    def check(self, outbound: Outbound) -> None:
        """Refuse more bytes."""
        if isinstance(outbound.output, StatisticsOutput | ModelOutput):
            limit = outbound.policy.jobs.max_answer_bytes
        else:
            limit = min(
                outbound.policy.training.max_reply_bytes, outbound.output.grant.max_reply_bytes
            )
        if outbound.size > limit:
            raise Refused(self.code, "The payload is larger than what may leave.")


class MinimumCohort:
    """Every statistic is about at least the policy's number of subjects, in each of its groups,
    and no non-empty cell holds fewer than the policy's number.

    Applied by ``withhold_small`` when the answer is made; here it is checked again, whoever made
    it, so that no path around the first check exists. A training reply's ``num-examples`` counts
    as a cohort, unless the project that the hospital approved says that it counts something else:
    then only the size of the release is looked at, before the work. A part with noise is not looked
    at: its noise hides how many it is about.

    Guarantee: no single exact count or mean over fewer subjects leaves. It does not, by itself,
    stop differencing of several answers; what the release declares does
    (``docs/reference/disclosure.md``), and this is the check behind it. Assumption: statistics are
    counted by this node's own code; how many a recipe trained on is what the recipe says.
    Source: DataSHIELD nfilter.tab and nfilter.subset; Hundepool et al. 2012, ch. 5.
    """

    code = "small-cell"

    def check(self, outbound: Outbound) -> None:
        """Refuse a small cohort or cell."""
        disclosure = minimums_of(outbound.job.work, outbound.policy.disclosure)
        output = outbound.output
        if isinstance(output, ModelOutput):
            # How many these are any exact answer about the model's variables says, too.
            least = max(
                disclosure.minimum_cohort, output.width * disclosure.subjects_per_coefficient
            )
            if output.part.n < least:
                raise Refused(self.code, "A model is about fewer subjects than allowed.")
            if output.part.missing % disclosure.minimum_cell:
                raise Refused(self.code, "A model says too exactly how many are not in it.")
            return
        if isinstance(output, StatisticsOutput):
            if any(is_small(part, disclosure) for part in output.parts):
                raise Refused(self.code, "A part is about fewer subjects than the policy allows.")
            return
        if output.grant.num_examples != "subjects":
            return
        for record in in_todays_form(output.records).values():
            if isinstance(record, Metrics):
                examples = record.items.get("num-examples")
                if isinstance(examples, int | float) and examples < disclosure.minimum_cohort:
                    raise Refused(self.code, "A metric is about fewer subjects than allowed.")


def minimums_of(work: Work, disclosure: DisclosureSettings) -> DisclosureSettings:
    """Return the minimums of a part: lower ones in a secure sum in which small sites take part."""
    if isinstance(work, StatisticsWork) and work.small_sites and disclosure.small_sites:
        return disclosure.in_sums
    return disclosure


def is_small(part: Part, disclosure: DisclosureSettings) -> bool:
    """Say whether any group or cell of a part is too small to leave; noise hides how many."""
    if part.lane == "dp":
        return False
    if part.rest is not None and part.rest.n and _summary_is_small(part.rest, disclosure):
        return True
    return any(_summary_is_small(summary, disclosure) for summary in part.groups.values())


def _summary_is_small(summary: Summary, disclosure: DisclosureSettings) -> bool:
    if summary.n < disclosure.minimum_cohort:
        return True
    cells = [summary.missing]
    if isinstance(summary, Counts):
        cells += [*summary.counts, summary.below, summary.above]
    return min(filter(None, cells), default=disclosure.minimum_cell) < disclosure.minimum_cell


def withhold_small(parts: list[Part], disclosure: DisclosureSettings) -> list[Part]:
    """Return the parts with every small one withheld whole, in one form for all reasons.

    How many subjects have no value is rounded down to a multiple of the policy's cell, so that a
    few missing values neither tell of those few nor cost the whole statistic.
    """
    rounded = [_round_missing(part, disclosure.minimum_cell) for part in parts]
    return [Part({}, withheld=True) if is_small(part, disclosure) else part for part in rounded]


def _round_missing(part: Part, cell: int) -> Part:
    if part.lane == "dp" or (
        part.rest is None and not any(s.missing % cell for s in part.groups.values())
    ):
        return part
    return dataclasses.replace(
        part,
        groups={
            level: dataclasses.replace(summary, missing=summary.missing // cell * cell)
            for level, summary in part.groups.items()
        },
        rest=part.rest and dataclasses.replace(part.rest, missing=0),
    )


BEFORE_EGRESS: tuple[BeforeEgress, ...] = (DeclaredSchema(), DeclaredSize(), MinimumCohort())


def let_pass(outbound: Outbound) -> tuple[str, ...]:
    """Run the table and return the rules that passed; the first objection raises ``Refused``."""
    passed: list[str] = []
    for rule in BEFORE_EGRESS:
        rule.check(outbound)
        passed.append(type(rule).__name__)
    return tuple(passed)
