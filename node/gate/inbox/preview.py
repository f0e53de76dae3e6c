"""What a steward sees of what waits: who asks, of whom, what would leave, and what is new in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from google.protobuf import text_format

from contract import wire_pb2 as wire
from contract.dictionary import Variable
from contract.documents import Job, Project, printable
from contract.records import Arrays, Metrics, decode
from contract.statistics.summaries import places
from contract.work import Statistic, StatisticsWork, TrainingWork
from node.catalog.rows import ReleaseRow
from node.gate.policy import Policy

REASONS = {
    "held": "the policy holds this kind of work (approval.hold_jobs)",
    "recipe": "the project names the recipe, and nobody here has approved it",
    "output": "the answer is held until it is released",
}
Line = tuple[str, str]


def about(job: Job, project: Project, release: ReleaseRow | None, policy: Policy) -> Iterator[Line]:
    """Yield who asks what of whom, as (what, text)."""
    yield "researcher", printable(job.researcher)
    yield "consortium", printable(job.consortium)
    yield "project", printable(f"{project.name} version {project.version}: {project.title}")
    yield "purpose", printable(project.purpose)
    yield "ethics reference", printable(project.ethics_reference)
    yield "legal basis", printable(project.legal_basis)
    yield "jurisdictions", printable(", ".join(project.jurisdictions) or "none named")
    if release is not None:
        yield "release", f"{printable(release.name)}, {release.subjects} subjects"
    yield "also asked", printable(", ".join(sorted(job.releases)))
    yield "valid until", f"{job.expires_at:%F %H:%M} UTC"
    work = job.work
    if isinstance(work, StatisticsWork):
        yield "cohort", printable(cohort_in_words(getattr(work, "cohort", None)))
        numbers = sum(numbers_of(s, project) for s in work.ask)
        yield "what leaves", f"{len(work.ask)} statistics, {numbers} numbers"
        for statistic in work.ask:
            yield "", printable(in_words(statistic))
    else:
        yield from _training(work, project, policy)


def _training(work: TrainingWork, project: Project, policy: Policy) -> Iterator[Line]:
    yield "cohort", "everybody in the release"
    yield "recipe", work.bundle
    for name, value in work.parameters.items():
        yield "parameter", printable(f"{name} = {value!r}")
    if work.start_from is not None:
        yield "starts from", f"the model {work.start_from}"
    if work.cross_evaluation:
        yield "evaluation", "each site's own model is evaluated at every site, which gets it"
    grant = project.recipe(work.bundle)
    if grant is None:
        return
    size = min(grant.max_reply_bytes, policy.training.max_reply_bytes)
    yield "what leaves", f"in each round, at most {size:,} bytes"
    yield "", "arrays of the names, shapes and types that the coordinator sends"
    yield "", printable("metrics: " + ", ".join(grant.metrics))
    if work.secure is not None:
        noise = work.secure.noise_multiplier
        held = f", with noise of {noise:g} clip norms" if noise else ""
        yield "secure", f"all of it masked, in sums over sites{held}; no update of ours alone"
    if grant.drafts:
        yield "what stays", "drafts about the release's assets, if the policy allows them"
    yield "the model", printable(project.model_outcome)


def in_words(statistic: Statistic) -> str:
    """Return a statistic in words."""
    words = {
        "count": "how many have a value of {v}",
        "moments": "mean and variance of {v}",
        "histogram": "counts of {v} on the agreed grid",
        "levels": "counts of each level of {v}",
        "shape": "mean, variance, skewness and kurtosis of {v}",
        "crosstab": "counts of each combination of {v}",
        "comoments": "means, variances and correlations of {v}",
    }
    said = words[statistic.kind].format(v=", ".join(statistic.variables))
    return f"{said}, for each {statistic.by}" if statistic.by else said


def numbers_of(statistic: Statistic, project: Project) -> int:
    """Return of how many numbers a statistic's answer is, at most."""
    variables = [v for n in statistic.variables if (v := project.variable(n)) is not None]
    by = project.variable(statistic.by) if statistic.by else None
    groups = len(by.levels) if by is not None else 1
    return groups * _numbers(statistic.kind, variables)


def _numbers(kind: str, variables: Sequence[Variable]) -> int:
    number = len(variables)
    match kind:
        case "levels":
            return sum(len(v.levels) for v in variables) + 1
        case "histogram":
            return sum(v.bins or 0 for v in variables) + 3
        case "crosstab":
            return math.prod(map(places, variables)) + 1
        case "comoments":
            return 2 + number + number * (number + 1) // 2
        case "shape":
            return 6
    return 2 if kind == "count" else 4


_CONDITIONS = {
    "at_least": "at least {0}",
    "above": "above {0}",
    "at_most": "at most {0}",
    "below": "below {0}",
    "levels": "one of {0}",
}


def cohort_in_words(cohort: Any) -> str:
    """Return a cohort (``contract.cohorts``, None: everybody) in words."""
    if cohort is None:
        return "everybody in the release"
    for name, word in (("all", " and "), ("any", " or ")):
        inner = getattr(cohort, name, None)
        if inner:
            return "(" + word.join(cohort_in_words(c) for c in inner) + ")"
    negated = getattr(cohort, "not_", None)
    if negated is not None:
        return f"not {cohort_in_words(negated)}"
    missing = getattr(cohort, "missing", None)
    if missing is not None:
        return f"{cohort.variable} is {'missing' if missing else 'there'}"
    said = []
    for field, words in _CONDITIONS.items():
        value = getattr(cohort, field, None)
        if value is not None:
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
            said.append(words.format(shown))
    return f"{cohort.variable} {' and '.join(said)}"


def output_of_statistics(job: Job, payload: bytes) -> Iterator[Line]:
    """Yield a held answer with its values, as it would leave."""
    work = job.work
    assert isinstance(work, StatisticsWork)
    answer = wire.StatisticsAnswer.FromString(payload)
    yield "would leave", f"{len(payload)} bytes"
    for statistic, part in zip(work.ask, answer.parts, strict=True):
        yield "", printable(in_words(statistic))
        values = text_format.MessageToString(part, as_one_line=True)
        yield "", "  " + (printable(values, 2000) or "nothing")


def output_of_training(payload: bytes, tensors: bytes) -> Iterator[Line]:
    """Yield a held reply: names, types, shapes and norms of its arrays, values of its metrics."""
    yield "would leave", f"{len(payload) + len(tensors):,} bytes"
    for name, record in decode(wire.RecordDict.FromString(payload), tensors).items():
        if isinstance(record, Arrays):
            for key, array in record.items.items():
                norm = float(np.linalg.norm(array.astype(np.float64).ravel()))
                shape = "x".join(map(str, array.shape)) or "one number"
                yield printable(name), printable(f"{key}: {array.dtype} {shape}, norm {norm:.4g}")
        elif isinstance(record, Metrics):
            for key, value in record.items.items():
                yield printable(name), printable(f"{key} = {value!r}")
