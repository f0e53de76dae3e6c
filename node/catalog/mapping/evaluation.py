"""A mapping applied: one row for each subject with the dictionary's variables, and what it lacks.

The rows of tables and observations are read batch by batch; memory is that of the subjects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from contract.dictionary import Variable
from node.catalog.dictionary import Dictionary
from node.catalog.manifest import SUBJECT
from node.catalog.mapping.compilation import (
    OTHER_NUMBERS,
    Compiler,
    Gathered,
    Tables,
    VaultTable,
    as_level,
)
from node.catalog.mapping.expressions import Column, Leaf, Observed
from node.catalog.mapping.file import Mapping
from node.catalog.mapping.kinds import Rule, Typed, Unmappable
from node.catalog.mapping.reduction import Reduction
from node.intake.measures import measure
from node.intake.units import greatest_age

if TYPE_CHECKING:
    import polars as pl

BATCH_ROWS: Final = 200_000


class Sources(Tables, Protocol):
    """The tables and observations of a node."""

    def observations(self, codes: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Yield the observations of some codes (``clinical.OBSERVATIONS``), in any order."""


@dataclass
class VariableResult:
    """What became of one variable: counts and levels, no subject's value."""

    name: str
    required: bool
    problem: Rule | None = None
    sentence: str = ""
    present: int = 0
    """Subjects with a value."""
    out_of_range: int = 0
    """Values outside the permitted range, made missing."""
    not_numbers: int = 0
    """Values that are infinite or, where whole ones are wanted, not whole; made missing."""
    unmapped: Counter[str] = field(default_factory=Counter)
    """Levels without a name in the dictionary, made missing, by level."""
    in_other_units: int = 0
    """Observations left out because their unit can't be converted."""
    without_source: bool = False
    """Whether none of its observations or rows exists at all."""


@dataclass
class Mapped:
    """A mapping's result."""

    frame: pl.DataFrame
    """``subject`` and the variables that could be derived, sorted by subject."""
    results: dict[str, VariableResult]

    @property
    def subjects(self) -> int:
        """The number of rows."""
        return self.frame.height


def apply_mapping(
    dictionary: Dictionary,
    mapping: Mapping,
    sources: Sources,
    *,
    observe: Callable[[int, int], None] = lambda done, total: None,
) -> Mapped:
    """Return the mapped table. What can't be derived is a variable's ``problem``, never an error.

    ``observe`` is told how many of the sources' passes are done.
    """
    compiler = Compiler(sources)
    results: dict[str, VariableResult] = {}
    made: dict[str, tuple[Variable, Typed, list[pl.Expr], set[Leaf]]] = {}
    for variable in dictionary.variables:
        if variable.derive is not None:
            continue  # made of the mapped table, when a release is
        result = results[variable.name] = VariableResult(variable.name, variable.required)
        compiler.recoded, compiler.used = [], set()
        node = mapping.variables.get(variable.name)
        try:
            if node is None:
                raise Unmappable("no-mapping", "the mapping doesn't name it")
            typed = _fitted(variable, compiler.compile(node))
        except Unmappable as why:
            result.problem, result.sentence = why.rule, why.sentence
            continue
        made[variable.name] = (variable, typed, compiler.recoded, compiler.used)
    needed = set().union(*(used for *_, used in made.values())) if made else set()
    gathering = _Gathering(sources, [g for g in compiler.gathered.values() if g.leaf in needed])
    wide = gathering.run(mapping.subjects, observe)
    columns = [wide[SUBJECT]]
    for name, (variable, typed, recoded, used) in made.items():
        result = results[name]
        columns.append(_finish(variable, typed, recoded, wide, result))
        gathered = [gathering.reductions[leaf] for leaf in used]
        result.in_other_units = sum(one.in_other_units for one in gathered)
        result.without_source = bool(gathered) and not any(one.rows for one in gathered)
        result.present = wide.height - columns[-1].null_count()
    import polars as pl

    return Mapped(pl.DataFrame(columns), results)


class _Gathering:
    """Reads the sources, stage by stage, until every leaf has its column."""

    def __init__(self, sources: Sources, gathered: Sequence[Gathered]) -> None:
        self._sources = sources
        self._gathered = gathered
        self.reductions: dict[Leaf, Reduction] = {}

    def run(self, tables: Sequence[str], observe: Callable[[int, int], None]) -> pl.DataFrame:
        """Return a row for each subject with the leaves' columns."""
        stages = sorted({one.stage for one in self._gathered})
        wide = self._subjects(tables)
        for done, stage in enumerate(stages):
            observe(done, len(stages))
            wide = self._stage([one for one in self._gathered if one.stage == stage], wide)
        observe(len(stages), len(stages))
        return wide

    def _subjects(self, tables: Sequence[str]) -> pl.DataFrame:
        import polars as pl

        found: list[pl.Series] = [pl.Series(SUBJECT, [], dtype=pl.String)]
        names = tables or sorted(
            {one.leaf.table for one in self._gathered if isinstance(one.leaf, Column)}
        )
        for name in names:
            table = self._sources.table(name)
            for batch in _batches(table, [SUBJECT]) if table else ():
                found = _merged(found, batch[SUBJECT])
        codes = self._codes(self._gathered)
        for batch in self._sources.observations(codes) if codes and not tables else ():
            found = _merged(found, batch["subject"])
        return pl.DataFrame([pl.concat(found).alias(SUBJECT).unique().sort()])

    def _stage(self, stage: Sequence[Gathered], wide: pl.DataFrame) -> pl.DataFrame:
        for one in stage:
            anchors = None
            if one.anchor is not None:
                anchors = wide.select(SUBJECT, _anchor=one.anchor).drop_nulls()
            self.reductions[one.leaf] = Reduction(one, anchors)
        by_table: dict[str, list[Column]] = {}
        for one in stage:
            if isinstance(one.leaf, Column):
                by_table.setdefault(one.leaf.table, []).append(one.leaf)
        for name, leaves in by_table.items():
            self._read_table(name, leaves)
        observed = [one.leaf for one in stage if isinstance(one.leaf, Observed)]
        codes = self._codes(stage)
        for batch in self._sources.observations(codes) if codes else ():
            for leaf in observed:
                self.reductions[leaf].add_observations(batch)
        for one in stage:
            wide = self._joined(wide, one)
        return wide

    def _read_table(self, name: str, leaves: Sequence[Column]) -> None:
        import polars as pl

        table = self._sources.table(name)
        assert table is not None, "it was there when the mapping was compiled"
        time = next((c.variable for c in table.schema.kept if c.name == table.schema.time), None)
        names = list(dict.fromkeys([SUBJECT, *(leaf.column for leaf in leaves)]))
        for batch in _batches(table, names if time is None else list({*names, time})):
            at = pl.lit(None, pl.Date) if time is None else pl.col(time)
            for leaf in leaves:
                value = pl.col(leaf.column)
                rows = batch.select(
                    SUBJECT, value=_plain(value, batch.schema[leaf.column]), time=at
                )
                rows = rows.filter(pl.col("value").is_not_null())
                self.reductions[leaf].add_rows(
                    rows.with_columns(pl.col("time").cast(pl.Datetime("us")))
                )

    def _joined(self, wide: pl.DataFrame, one: Gathered) -> pl.DataFrame:
        import polars as pl

        types = {"number": pl.Float64, "category": pl.String, "boolean": pl.Boolean}
        result = self.reductions[one.leaf].result()
        if result is None:
            empty = pl.lit(None, types.get(one.kind.name, pl.Date))
            wide = wide.with_columns(empty.alias(one.alias))
        else:
            named = result.rename({"value": one.alias})
            wide = wide.join(named, on=SUBJECT, how="left", maintain_order="left")
        # Nobody has it: then it isn't recorded here, which says nothing of anybody.
        if one.leaf.take in ("count", "any") and self.reductions[one.leaf].rows:
            none = pl.lit(0.0) if one.leaf.take == "count" else pl.lit(False)
            filled = pl.col(one.alias).fill_null(none)
            if one.anchor is not None:
                filled = pl.when(one.anchor.is_not_null()).then(filled)
            wide = wide.with_columns(filled.alias(one.alias))
        return wide

    @staticmethod
    def _codes(gathered: Sequence[Gathered]) -> list[str]:
        leaves = [one.leaf for one in gathered if isinstance(one.leaf, Observed)]
        return sorted({code for leaf in leaves for code in leaf.codes})


def _plain(value: pl.Expr, kind: pl.DataType) -> pl.Expr:
    import polars as pl

    return value.cast(pl.Float64) if kind.is_numeric() else value


def _batches(table: VaultTable, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    import polars as pl

    scan = pl.scan_parquet(table.path, glob=False).select(columns)
    for first in range(0, table.rows, BATCH_ROWS):
        yield scan.slice(first, BATCH_ROWS).collect()


def _merged(found: list[pl.Series], more: pl.Series) -> list[pl.Series]:
    import polars as pl

    found.append(more.alias(SUBJECT).unique())
    return [pl.concat(found).unique()] if len(found) > 16 else found


# ---- a variable's values -----------------------------------------------------------------------


def _fitted(variable: Variable, typed: Typed) -> Typed:
    """Return a value as its variable wants it, before its range and levels are looked at."""
    import polars as pl

    if variable.kind == "number":
        typed.need("number")
        number = typed.expr
        if variable.unit:
            number = typed.within(measure(variable.unit))
        return Typed(typed.kind, number.cast(pl.Float64))
    typed.need("category", "boolean", "number")
    if typed.kind.name == "number" and not all(map(_is_number, variable.levels)):
        raise Unmappable("type-mismatch", "a number stands where a category must; use bins")
    return Typed(typed.kind, as_level(typed))


def _finish(
    variable: Variable,
    typed: Typed,
    recoded: Sequence[pl.Expr],
    wide: pl.DataFrame,
    result: VariableResult,
) -> pl.Series:
    for expr in recoded:
        result.unmapped.update(_levels(wide, expr))
    values = wide.select(value=typed.expr)["value"]
    if values.len() != wide.height:
        values = values.new_from_index(0, wide.height)
    if variable.kind == "number":
        return _numbers(variable, values, result).alias(variable.name)
    return _categories(variable, typed, values, result).alias(variable.name)


def _numbers(variable: Variable, values: pl.Series, result: VariableResult) -> pl.Series:
    import polars as pl

    markers = [float(m) for m in variable.missing if _is_number(m)]
    values = values.set(values.is_in(markers).fill_null(False), None)
    wrong = (~values.is_finite()).fill_null(False)
    if variable.whole:
        wrong = wrong | (values != values.round()).fill_null(False)
    result.not_numbers = int(wrong.sum())
    values = values.set(wrong, None)
    outside = values.is_null() & False
    if variable.minimum is not None and variable.maximum is not None:
        outside = ((values < variable.minimum) | (values > variable.maximum)).fill_null(False)
    result.out_of_range = int(outside.sum())
    values = values.set(outside, None)
    greatest = greatest_age(variable.unit, variable.name)
    if greatest < float("inf"):
        values = values.set((values > greatest).fill_null(False), greatest)
    return values.cast(pl.Int64) if variable.whole else values


def _categories(
    variable: Variable, typed: Typed, values: pl.Series, result: VariableResult
) -> pl.Series:
    import polars as pl

    values = values.set(values.is_in(list(variable.missing)).fill_null(False), None)
    by_code = {f"{code.terminology}|{code.code}": level for level, code in variable.codes.items()}
    names = {level: level for level in variable.levels}
    for level, code in (typed.kind.levels or {}).items():
        if level not in names and code in by_code:
            names[level] = by_code[code]
    for code, level in by_code.items():
        names.setdefault(code, level)
    named = values.replace_strict(names, default=None, return_dtype=pl.String)
    lost = values.filter(named.is_null() & values.is_not_null())
    if typed.kind.name == "number":
        result.unmapped.update({OTHER_NUMBERS: lost.len()} if lost.len() else {})
    else:
        result.unmapped.update(lost.to_list())
    return named


def _levels(wide: pl.DataFrame, expr: pl.Expr) -> Counter[str]:
    values = wide.select(value=expr)["value"]
    if values.len() != wide.height and wide.height:
        values = values.new_from_index(0, wide.height)
    return Counter(values.drop_nulls().to_list())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
