"""A question's cohort, tried at home: how many of a release are in it, and what the gate would say.

The filter is that of a question: conditions as one types them, or the JSON of a cohort. It is
counted here for the hospital's own people, exactly; nothing of it leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from contract import cohorts
from contract.cohorts import Cohort
from contract.conditions import all_of
from contract.derivation_words import in_words
from contract.dictionary import Variable
from contract.documents import Project
from contract.envelope import Envelope
from contract.errors import DataError, DocumentError, Refused, UsageError, WardgateError
from contract.work import Statistic, StatisticsWork
from node.catalog.asked import Asked
from node.catalog.rows import ReleaseRow
from node.catalog.store import Catalog
from node.gate import exact
from node.gate.policy import Policy
from node.home import NodeHome
from node.work.statistics import ColumnCache, cohort_rows

MAX_TEXT = 20_000
CACHE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Choice:
    """A release that a project may ask."""

    release: ReleaseRow
    consortium: str
    project: str

    @property
    def key(self) -> str:
        """What the form sends for it."""
        return f"{self.release.digest}/{self.consortium}/{self.project}"


@dataclass(frozen=True)
class Counted:
    """What came of a cohort: its JSON, how many of how many, and the lane (``exact``, ``dp``).

    ``refusal`` is the gate's sentence when it would answer by neither.
    """

    json: str
    inside: int
    subjects: int
    lane: str
    refusal: str


@dataclass(frozen=True)
class Told:
    """A variable that conditions can be on: its values, and its meaning and how it is derived."""

    name: str
    values: str
    meaning: str


def choices(catalog: Catalog) -> list[Choice]:
    """Return what can be asked: each valid release with a table, for each project it is granted."""
    return [
        Choice(row, grant.consortium, grant.project)
        for row in catalog.list_releases(revoked=False)
        if row.manifest.table is not None
        for grant in catalog.grants_of(row.digest)
    ]


def read(text: str) -> Cohort | None:
    """Return the cohort that was typed; None, which is everybody, for nothing.

    A text that begins with a brace is JSON; else each line is a condition, and all must hold.
    Errors: ``UsageError``.
    """
    if len(text) > MAX_TEXT:
        raise UsageError(f"A cohort has at most {MAX_TEXT} characters.")
    if not text.lstrip().startswith("{"):
        return all_of(line for line in text.splitlines() if line.strip())
    try:
        return Cohort.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise UsageError(f"The JSON is no cohort: {place}: {first['msg']}.") from None


class Cohorts:
    """Counts cohorts of this node's releases."""

    def __init__(self, home: NodeHome, asked: Asked) -> None:
        self._home = home
        self._asked = asked
        self._cache = ColumnCache(CACHE_BYTES)

    def count(self, choice: Choice, cohort: Cohort | None, policy: Policy) -> Counted:
        """Count a cohort of a release. Errors: ``DocumentError`` when it doesn't fit the project,
        ``DataError`` when the release was changed or has not its variables.
        """
        project = self._project(choice)
        if cohort is not None:
            cohorts.check(cohort, project)
        names = cohorts.variables(cohort) if cohort is not None else []
        held = {column.name for column in choice.release.manifest.columns}
        lacking = [name for name in names if name not in held]
        if lacking:
            raise DataError(f"The release has no {lacking[0]}.")
        first = next((v.name for v in project.variables if v.name in held), None)
        if first is None:
            raise DataError("The release has none of the project's variables.")
        work = StatisticsWork(ask=(Statistic(kind="count", variable=first),), cohort=cohort)
        _, inside = cohort_rows(self._home, choice.release, project, work, self._cache)
        lane, refusal = "", ""
        try:
            [found] = exact.lanes(work, project, choice.release.manifest, policy)
            lane = "dp" if found is None else "exact"
        except Refused as error:
            refusal = str(error)
        return Counted(
            json="" if cohort is None else cohort.model_dump_json(indent=2),
            inside=choice.release.subjects if inside is None else int(inside.sum()),
            subjects=choice.release.subjects,
            lane=lane,
            refusal=refusal,
        )

    def variables(self, choices: Sequence[Choice]) -> dict[str, list[Told]]:
        """Return of each project that can be asked the variables that one of its releases has."""
        held: dict[str, set[str]] = {}
        projects: dict[str, Project] = {}
        for choice in choices:
            name = f"{choice.consortium}/{choice.project}"
            try:
                projects[name] = projects.get(name) or self._project(choice)
            except DocumentError:
                continue
            columns = {column.name for column in choice.release.manifest.columns}
            held.setdefault(name, set()).update(columns)
        return {
            name: [_told(v) for v in project.variables if v.name in held[name]]
            for name, project in projects.items()
        }

    def _project(self, choice: Choice) -> Project:
        for row in self._asked.projects(choice.consortium):
            if row.name == choice.project:
                return Project.read(Envelope.parse(row.envelope).body)
        raise DocumentError(f"Project {choice.project} is not known here.")


def _told(variable: Variable) -> Told:
    values = " | ".join(variable.levels)
    if variable.kind == "number":
        bounds = (variable.minimum, variable.maximum)
        values = " – ".join(f"{bound:g}" for bound in bounds if bound is not None)
        values = f"{values} {variable.unit}".strip()
    derived = "" if variable.derive is None else in_words(variable.derive)
    meaning = " = ".join(text for text in (variable.meaning, derived) if text)
    return Told(variable.name, values, meaning)


def tried(
    counting: Cohorts, choice: Choice | None, text: str, policy: Policy | None, problem: str
) -> tuple[Counted | None, str]:
    """Return what came of a form, or why nothing did."""
    if choice is None or policy is None:
        return None, problem or "This release can't be asked."
    try:
        return counting.count(choice, read(text), policy), ""
    except WardgateError as error:
        return None, str(error)
