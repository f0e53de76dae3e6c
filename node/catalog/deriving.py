"""A dictionary's derived variables, made when a release is: ordinary columns from then on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from contract import deriving
from contract.derivations import Impute, dates_of, variables_of
from contract.deriving import Coded, Lost
from contract.dictionary import Variable
from contract.errors import DataError, NotFound, UsageError
from contract.holdings import Consent, Imaging, Intensity, Linked
from node.catalog.holding import Holdings, outside
from node.catalog.imputing import impute
from node.catalog.kinship import NO_KINSHIP, Kinship
from node.catalog.manifest import SUBJECT, ReleaseColumn, ReleaseManifest

if TYPE_CHECKING:
    import polars as pl

BOOLEAN_LEVELS = ("false", "true")
_NUMBERS = ("integer", "number")
_CATEGORIES = ("category", "boolean")


@dataclass(frozen=True)
class Made:
    """What became of one derived variable, for the steward's eyes."""

    name: str
    missing: int
    lost: Lost
    problem: str = ""
    """Why it isn't in the release; empty if it is."""


@dataclass(frozen=True)
class Wanted:
    """What a release is to derive: of which dictionary, and which columns it is to have.

    ``columns``: None for all of the table's and all that can be derived.
    """

    variables: Sequence[Variable] = ()
    columns: Sequence[str] | None = None

    @property
    def needs_no_table(self) -> bool:
        """Whether a variable is derived from what is held besides, so that there can be a table of
        such alone."""
        return any(
            isinstance(v.derive, Imaging | Intensity | Consent | Linked) for v in self.derived
        )

    @property
    def of_holdings(self) -> list[Consent | Linked]:
        """The derivations that the catalogue answers."""
        return [v.derive for v in self.derived if isinstance(v.derive, Consent | Linked)]

    @property
    def asks_for_consent(self) -> bool:
        """Whether a variable says whose consent is in force."""
        return any(isinstance(node, Consent) for node in self.of_holdings)

    @property
    def derived(self) -> list[Variable]:
        """The derived variables that the release is to have, and what they are derived from."""
        found = {v.name: v for v in self.variables if v.derive is not None}
        if self.columns is None:
            return list(found.values())
        needed = set(self.columns)
        for variable in reversed(list(found.values())):
            if variable.name in needed and variable.derive is not None:
                needed |= set(variables_of(variable.derive))
        return [v for v in found.values() if v.name in needed]

    def of_the_table(self, table: str, known: Collection[str]) -> list[str]:
        """Return the columns of a table that are released or derived from.

        ``NotFound`` for one that is neither there nor derived.
        """
        names = {v.name for v in self.derived}
        asked = list(known if self.columns is None else dict.fromkeys(self.columns))
        unknown = [name for name in asked if name not in names and name not in known]
        if unknown:
            raise NotFound(f"Table {table!r} has no column {unknown[0]!r}.")
        for variable in self.derived:
            assert variable.derive is not None
            asked += [*variables_of(variable.derive), *dates_of(variable.derive)]
        twice = sorted(names & set(known))
        if twice:
            raise UsageError(
                f"Table {table!r} has a column {twice[0]} of its own, which the dictionary derives."
            )
        return [name for name in dict.fromkeys(asked) if name in known]


@dataclass(frozen=True)
class Derived:
    """A release's table with what was derived."""

    frame: pl.DataFrame
    columns: tuple[ReleaseColumn, ...]
    rules: Mapping[str, str] = field(default_factory=dict)
    """Of each derived column the digest of how it was made."""
    made: tuple[Made, ...] = ()
    kinship: Kinship = NO_KINSHIP


Observe = Callable[[int, int], None]


def _nobody(done: int, total: int) -> None:
    """Watch nothing."""


class Images(Protocol):
    """The images of a release."""

    def parameter(self, node: Imaging, subjects: Sequence[str]) -> deriving.Column:
        """Return how each subject's images were taken."""

    def intensity(self, node: Intensity, subjects: Sequence[str]) -> NDArray[np.float64]:
        """Return how bright each subject's images are."""


def derive_columns(
    frame: pl.DataFrame,
    columns: Sequence[ReleaseColumn],
    wanted: Wanted,
    images: Images | None = None,
    observe: Observe = _nobody,
    holdings: Holdings | None = None,
) -> Derived:
    """Return a table with a dictionary's derived variables.

    What can't be derived here is left out and said, unless it is required or was named: then
    ``DataError``. Values that the dictionary doesn't permit are missing. ``observe`` is told how
    many imputations of a variable are done.
    """
    if not wanted.derived:
        return Derived(frame, tuple(columns))
    work = _Working(frame, columns, wanted, images, observe, holdings or Holdings())
    for variable in wanted.derived:
        work.add(variable)
    there = {c.name: c for c in work.columns}
    names = [n for n in dict.fromkeys(wanted.columns or there) if n in there]
    return Derived(
        work.frame.select(SUBJECT, *names).sort(SUBJECT, *names),
        tuple(there[name] for name in names),
        {n: rule(wanted.variables, n) for n in names if n in work.derived},
        tuple(one for one in work.made if wanted.columns is None or one.name in wanted.columns),
        _kinship(
            wanted.derived, names, [name for name in names if there[name].type in _CATEGORIES]
        ),
    )


def rule(variables: Sequence[Variable], name: str) -> str:
    """Return the digest of how a variable is derived, by its own definition and its sources'."""
    defined = {v.name: v for v in variables}
    needed: dict[str, Any] = {}
    queue = [name]
    while queue:
        variable = defined.get(queue.pop())
        if variable is None or variable.name in needed:
            continue
        own = {"kind", "levels", "minimum", "maximum", "whole", "derive"}
        shown = own | {"name"} if variable.derive is not None else {"name", "kind", "missing"}
        needed[variable.name] = variable.model_dump(mode="json", include=shown)
        if variable.derive is not None:
            queue += variables_of(variable.derive)
    return hashlib.sha256(json.dumps(needed, sort_keys=True).encode()).hexdigest()


def of_no_table(variables: Sequence[Variable]) -> frozenset[str]:
    """Return which variables are derived of images, consents and links: any table can have them."""
    found: set[str] = set()
    for variable in variables:
        node = variable.derive
        if node is not None and (
            isinstance(node, Imaging | Intensity | Consent | Linked)
            or found & set(variables_of(node))
        ):
            found.add(variable.name)
    return frozenset(found)


def is_as_derived(manifest: ReleaseManifest, variables: Sequence[Variable], name: str) -> bool:
    """Say whether a release has a variable as the dictionary derives it, if it derives it."""
    variable = next((v for v in variables if v.name == name), None)
    if variable is None or variable.derive is None or manifest.column(name) is None:
        return True
    return manifest.derived.get(name) == rule(variables, name)


# ---- one after the other -------------------------------------------------------------------------


class _Working:
    """A table to which derived columns are added, in the dictionary's order."""

    def __init__(
        self,
        frame: pl.DataFrame,
        columns: Sequence[ReleaseColumn],
        wanted: Wanted,
        images: Images | None,
        observe: Observe,
        holdings: Holdings,
    ) -> None:
        self.frame = frame
        self.columns = list(columns)
        self.derived: set[str] = set()
        self.made: list[Made] = []
        self._wanted = wanted
        self._images = images
        self._observe = observe
        self._holdings = holdings
        self._chains: dict[tuple[tuple[str, ...], int], list[dict[str, deriving.Column]]] = {}
        self._defined = {v.name: v for v in wanted.variables}

    def add(self, variable: Variable) -> None:
        """Derive one variable, or say why it can't be."""
        try:
            made = self._make(variable)
        except DataError as error:
            named = variable.name in (self._wanted.columns or ())
            if variable.required or named:
                raise DataError(f"Variable {variable.name} can't be derived: {error}") from None
            self.made.append(Made(variable.name, self.frame.height, Lost(), str(error)))
            return
        column, lost = deriving.fit(made, variable)
        values = series(column, variable)
        self.frame = self.frame.with_columns(values)
        self.columns.append(column_of(variable))
        self.derived.add(variable.name)
        self.made.append(Made(variable.name, int(values.null_count()), lost))

    def _make(self, variable: Variable) -> deriving.Column:
        node = variable.derive
        assert node is not None
        if isinstance(node, Imaging | Intensity):
            if self._images is None:
                raise DataError("The release holds no images.")
            subjects = self.frame[SUBJECT].to_list()
            if isinstance(node, Intensity):
                return self._images.intensity(node, subjects)
            return self._images.parameter(node, subjects)
        if isinstance(node, Consent | Linked):
            return self._holdings.of(node, self.frame[SUBJECT].to_list())
        if isinstance(node, Impute):
            return self._imputed(node)
        return deriving.derive(node, self._table(variables_of(node), dates_of(node)))

    def _imputed(self, node: Impute) -> deriving.Column:
        """Return one draw of a variable, of the chain that it has with others of the same set."""
        subjects = self.frame[SUBJECT].to_list()
        if len(set(subjects)) != len(subjects):
            raise DataError("The table has several rows for a subject.")
        names = tuple(sorted({node.impute, *node.using}))
        key = (names, node.imputations)
        if key not in self._chains:
            columns = {name: self._source(name) for name in names}
            self._chains[key] = impute(columns, subjects, node.imputations, self._observe)
        return self._chains[key][node.imputation - 1][node.impute]

    def _table(self, variables: Sequence[str], dates: Sequence[str]) -> deriving.Table:
        return deriving.Table(
            self.frame.height,
            {name: self._source(name) for name in variables},
            {name: self._date(name) for name in dates},
        )

    def _column(self, name: str) -> ReleaseColumn:
        found = next((c for c in self.columns if c.name == name), None)
        if found is None:
            raise DataError(f"The table has no column {name}, which it is derived from.")
        return found

    def _source(self, name: str) -> deriving.Column:
        column, variable = self._column(name), self._defined[name]
        problem = misfit(column, variable)
        if problem:
            raise DataError(f"The table doesn't fit the dictionary: {problem}.")
        return values_of(self.frame[name], column, variable.missing)

    def _date(self, name: str) -> NDArray[np.float64]:
        import polars as pl

        if self._column(name).type != "date":
            raise DataError(f"Column {name} of the table is no date.")
        days = self.frame[name].cast(pl.Date).cast(pl.Int32).cast(pl.Float64)
        return np.array(days.fill_null(float("nan")).to_numpy(), dtype=np.float64)


def misfit(column: ReleaseColumn, variable: Variable) -> str:
    """Return why a column isn't one of a variable; empty if it is."""
    if column.type not in (_NUMBERS if variable.kind == "number" else _CATEGORIES):
        return (
            f"variable {variable.name} is a {variable.kind} in the dictionary and of type "
            f"{column.type} in the release"
        )
    if variable.unit and column.unit and variable.unit != column.unit:
        return f"variable {variable.name} has another unit in the release than in the dictionary"
    return ""


def values_of(
    values: pl.Series, column: ReleaseColumn, missing: Collection[str] = ()
) -> deriving.Column:
    """Return a table's column to derive from; ``missing``: what stands for a missing value."""
    import polars as pl

    if column.type in _NUMBERS:
        numbers = np.array(values.cast(pl.Float64).fill_null(float("nan")).to_numpy())
        gone = [float(text) for text in missing if _is_number(text)]
        return np.where(np.isin(numbers, gone), np.nan, numbers)
    text = values.cast(pl.String)
    known = BOOLEAN_LEVELS if column.type == "boolean" else column.levels
    levels = tuple(dict.fromkeys([*known, *sorted(set(text.drop_nulls().unique()) - set(known))]))
    codes = text.replace_strict(
        {level: -1 if level in missing else code for code, level in enumerate(levels)},
        default=-1,
        return_dtype=pl.Int64,
    )
    return Coded(codes.fill_null(-1).to_numpy().copy(), levels)


def series(column: deriving.Column, variable: Variable) -> pl.Series:
    """Return a derived column for a release's table; a missing value is null."""
    import polars as pl

    if isinstance(column, Coded):
        levels = pl.Series([*column.levels, None], dtype=pl.String)
        return levels.gather(np.where(column.codes < 0, len(column.levels), column.codes)).alias(
            variable.name
        )
    numbers = pl.Series(variable.name, column, dtype=pl.Float64, nan_to_null=True)
    return numbers.cast(pl.Int64) if variable.whole else numbers


def column_of(variable: Variable) -> ReleaseColumn:
    """Return how a release declares a derived variable."""
    if variable.kind == "category":
        return ReleaseColumn(name=variable.name, type="category", levels=variable.levels)
    return ReleaseColumn(
        name=variable.name,
        type="integer" if variable.whole else "number",
        unit=variable.unit,
        minimum=variable.minimum,
        maximum=variable.maximum,
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _kinship(
    derived: Sequence[Variable], names: Collection[str], categories: Sequence[str]
) -> Kinship:
    """Return which columns are derived from one another, which are of the very same sources, and
    which categories share one.

    What is imputed is kin of what it completes, but its counts differ from another draw's by drawn
    values alone; of what it is imputed by it is no function.
    """
    sources: dict[str, frozenset[str]] = {}
    groups: list[set[str]] = []
    operations = [variable.derive for variable in derived]
    for variable in derived:
        assert variable.derive is not None
        of = variables_of(variable.derive)
        if isinstance(variable.derive, Impute):
            of = of[:1]
        dates = frozenset(f"date {name}" for name in dates_of(variable.derive))
        besides = outside(variable.derive, operations)
        made = dates.union(besides, *(sources.get(n, frozenset({n})) for n in of))
        if isinstance(variable.derive, Impute) or not made:
            made = frozenset({variable.name})
        sources[variable.name] = made
        tied = {variable.name, *of, *dates, *besides}
        if isinstance(variable.derive, Intensity):
            tied.add(f"pixels {variable.derive.modality}")  # their shares add up to 1
        joined = [group for group in groups if group & tied]
        groups = [group for group in groups if not group & tied]
        groups.append(tied.union(*joined))
    same: dict[frozenset[str], list[str]] = {}
    for name in names:
        same.setdefault(sources.get(name, frozenset({name})), []).append(name)
    shared: dict[str, list[str]] = {}
    for name in sorted(categories, key=lambda name: name in sources):
        for source in sources.get(name, frozenset({name})):
            shared.setdefault(source, []).append(name)
    unlike = {tuple(some) for some in shared.values() if len(some) > 1}
    kept = (tuple(name for name in names if name in group) for group in groups)
    return Kinship(
        tuple(sorted(group for group in kept if len(group) > 1)),
        tuple(tuple(some) for some in same.values() if len(some) > 1),
        tuple(
            sorted(
                names
                for names in unlike
                if len({sources.get(n, frozenset({n})) for n in names}) > 1
            )
        ),
        frozenset(v.name for v in derived if not isinstance(v.derive, Impute)),
    )
