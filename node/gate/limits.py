"""The policy's hours, and what one project may do here, however much it was approved for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from contract import cohorts, derivations
from contract.dictionary import Variable
from contract.documents import Project
from contract.errors import Refused
from contract.work import TrainingWork
from foundation.hours import Hours
from node.gate.policy import ProjectLimits
from node.gate.rules import Question


class WithinHours:
    """Jobs are let in within the policy's hours, and the project's, in the machine's own zone.

    A job that came within them may be worked on later; so may one that waited for the steward.

    Guarantee: no new job is let in while nobody is there who would notice it. Assumption: the
    machine's clock and zone. Source: the policy's ``jobs.hours`` (``docs/reference/policy.md``).
    """

    code = "hours"

    def check(self, question: Question) -> None:
        """Refuse a new job outside the hours."""
        if question.seen_nonce(question.job.nonce) is not None:
            return
        policy = question.policy
        for hours in (policy.jobs.hours, policy.limits(question.job.project).hours):
            if not is_open(hours, question.now):
                raise Refused(self.code, "Jobs are not let in at this hour.")


class WithinLimits:
    """The job is within what the policy says of its project: ``[projects.NAME]``.

    Guarantee: an approved project can't do here what the hospital excluded, whoever signed it. A
    limit counts for every place of a question that a name can stand in, also for one that a later
    kind of question brings. Refusals name the limit, which says nothing of any patient.
    Assumption: only the hospital writes its policy file; a changed one is a ledger entry.
    Source: ``docs/decisions/0013-policy-is-a-file.md``.
    """

    code = "limit"

    def check(self, question: Question) -> None:
        """Refuse what is outside a limit; the later rules go by the project's stricter figures."""
        question.policy = question.policy.under(question.job.project)
        limits = question.policy.limits(question.job.project)
        for name, (objects, sentence) in LIMITS.items():
            if objects(question, limits):
                raise Refused(f"{self.code}-{name}", sentence)


def is_open(hours: str, now: datetime) -> bool:
    """Say whether ``now`` is within ``hours``; no hours are always."""
    waits = Hours.parse(hours).opens_in(now)
    return waits is not None and not waits


def names_in(value: object) -> set[str]:
    """Return every text of a question but its kinds, wherever it stands."""
    found: set[str] = set()
    queue = [value]
    while queue:
        one = queue.pop()
        if isinstance(one, str):
            found.add(one)
        elif isinstance(one, dict):
            found.update(key for key in one if key != "kind")
            queue.extend(inner for key, inner in one.items() if key != "kind" and inner is not None)
        elif isinstance(one, list | tuple | set | frozenset):
            queue.extend(one)
    return found


def variables_of(question: Question) -> set[str]:
    """Return the variables that a job touches: those it names, and all that a recipe would see."""
    work = question.job.work
    if isinstance(work, TrainingWork):
        assert question.release is not None
        return {column.name for column in question.release.manifest.columns}
    project = _project(question)
    return {v.name for v in project.variables} & names_in(work.model_dump())


def _project(question: Question) -> Project:
    assert question.project is not None
    return question.project


def _outside(found: set[str], allowed: list[str]) -> bool:
    """Say whether a limit objects: there is one, and something is not in it, or nothing is said."""
    return bool(allowed) and (not found or not found <= set(allowed))


def _kind(question: Question, limits: ProjectLimits) -> bool:
    return _outside({question.job.work.kind}, list(limits.kinds))


def _researcher(question: Question, limits: ProjectLimits) -> bool:
    return _outside({question.job.researcher}, limits.researchers)


def _purpose(question: Question, limits: ProjectLimits) -> bool:
    return _outside({_project(question).purpose}, limits.purposes)


def _legal_basis(question: Question, limits: ProjectLimits) -> bool:
    return _outside({_project(question).legal_basis}, limits.legal_bases)


def _jurisdiction(question: Question, limits: ProjectLimits) -> bool:
    return _outside(set(_project(question).jurisdictions), limits.jurisdictions)


def _variable(question: Question, limits: ProjectLimits) -> bool:
    return bool(limits.variables) and not variables_of(question) <= set(limits.variables)


def _recipe(question: Question, limits: ProjectLimits) -> bool:
    work = question.job.work
    return isinstance(work, TrainingWork) and _outside({work.bundle}, limits.recipes)


def _granularity(question: Question, limits: ProjectLimits) -> bool:
    if isinstance(question.job.work, TrainingWork) or not limits.granularity:
        return False
    asked, variables = variables_of(question), _project(question).variables
    most = dict(limits.granularity)
    for variable in variables:
        if variable.derive is not None and variable.name not in most:
            of = [most[name] for name in derivations.variables_of(variable.derive) if name in most]
            if of:  # the same under another name is no coarser
                most[variable.name] = min(of)
    if asked & _finer_together(variables, limits.granularity) or any(
        _cells(v) > most[v.name] for v in variables if v.name in asked and v.name in most
    ):
        return True
    cohort = question.job.work.cohort
    if cohort is None:
        return False
    cuts = cohorts.normalise(cohort, _project(question)).uses
    return any(not cuts.get(v.name, frozenset()) <= _edges(v) for v in variables if v.name in most)


def _finer_together(variables: Sequence[Variable], granularity: Mapping[str, int]) -> set[str]:
    """Return the derived variables that, with what is declared before, tell more than is allowed.

    Guarantee: whatever is asked of a limited variable and of those derived of it that have no entry
    of their own, its values are told apart into no more parts than its entry says. Partitions of m
    and n parts make m * n at most, and a derived number's range makes one more (those outside it).
    So several coarse grids that are shifted against each other, or cuts one by one, don't add up to
    a fine one. Assumption: a variable with an entry was looked at by the hospital.
    """
    known = {variable.name: variable for variable in variables}
    together = {name: max(_cells(known[name]), 1) for name in granularity if name in known}
    limited: dict[str, frozenset[str]] = {name: frozenset({name}) for name in together}
    finer: set[str] = set()
    for variable in variables:
        if variable.derive is None or variable.name in granularity:
            continue
        names = derivations.variables_of(variable.derive)
        sources = frozenset().union(*(limited.get(name, frozenset()) for name in names))
        limited[variable.name] = sources
        parts = _cells(variable) + (variable.kind == "number" and variable.bins is not None)
        for name in sources:
            if parts < 2 or _is_cut_alike(variable, known[name]):
                continue
            if together[name] * parts > granularity[name]:
                finer.add(variable.name)
            else:
                together[name] *= parts
    return finer


def _cells(variable: Variable) -> int:
    return max(len(variable.levels), variable.bins or 0)


def _is_cut_alike(variable: Variable, source: Variable) -> bool:
    """Say whether a derived variable parts its source only where the source's own grid does."""
    derive = variable.derive
    if isinstance(derive, derivations.Bins):
        edges = {source.minimum, *_starts(source)}
        return _is_plainly(derive.bins, source) and set(derive.edges) <= edges
    same = (variable.minimum, variable.maximum, variable.bins, variable.levels) == (
        *(source.minimum, source.maximum, source.bins, source.levels),
    )
    imputed = isinstance(derive, derivations.Impute) and derive.impute == source.name
    return same and (imputed or _is_plainly(derive, source))


def _is_plainly(node: object, source: Variable) -> bool:
    return isinstance(node, derivations.Of) and node.variable == source.name


def _starts(variable: Variable) -> set[float]:
    """Return where the bins of a number's grid begin, in both ways of working it out."""
    low, high, bins = variable.minimum, variable.maximum, variable.bins
    if low is None or high is None or not bins:
        return set()
    starts = {low + (high - low) * i / bins for i in range(bins)}
    return starts | {low + i * ((high - low) / bins) for i in range(bins)}


def _edges(variable: Variable) -> frozenset[cohorts.Cut]:
    """Return where a cohort may cut a number without seeing more than the bins of its grid.

    Compared as they are: two cuts near one edge would tell who is between them.
    """
    high, starts = variable.maximum, _starts(variable)
    if high is None or not starts:
        return frozenset()
    places = [*((start, 0) for start in starts), (high, 1)]
    return frozenset(cohorts.cut(place, whole=variable.whole) for place in places)


def _parameter(question: Question, limits: ProjectLimits) -> bool:
    work = question.job.work
    if not isinstance(work, TrainingWork):
        return False
    ranges = limits.parameters.get(work.bundle, {})
    return not all(
        name in work.parameters and allowed.admits(work.parameters[name])
        for name, allowed in ranges.items()
    )


def _rate(question: Question, limits: ProjectLimits) -> bool:
    if limits.per_hour is None or question.seen_nonce(question.job.nonce) is not None:
        return False
    return question.asked_of_project(question.job.project) >= limits.per_hour


Objection = Callable[[Question, ProjectLimits], bool]
LIMITS: Mapping[str, tuple[Objection, str]] = {
    "kind": (_kind, "This site doesn't do this kind of work for the project."),
    "researcher": (_researcher, "This site doesn't answer this researcher under the project."),
    "purpose": (_purpose, "The project states a purpose that this site doesn't allow."),
    "legal-basis": (_legal_basis, "The project states a legal basis that this site doesn't allow."),
    "jurisdiction": (
        _jurisdiction,
        "The project reaches a jurisdiction that this site doesn't allow, or names none.",
    ),
    "variable": (_variable, "This site doesn't answer about a variable of the question."),
    "recipe": (_recipe, "This site doesn't run this recipe for the project."),
    "granularity": (
        _granularity,
        "The project's dictionary is finer in a variable of the question than this site allows.",
    ),
    "parameter": (
        _parameter,
        "A parameter of the recipe is not given, or outside what this site allows the project.",
    ),
    "rate": (_rate, "The project is asked under more often than this site allows."),
}
"""Each limit by the end of its code: what objects, and the sentence."""
