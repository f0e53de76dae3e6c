"""Expressions become polars expressions over one row for each subject, their kinds checked."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from node.catalog.mapping.expressions import (
    Arithmetic,
    Between,
    Bins,
    Coalesce,
    Column,
    Compare,
    Constant,
    Expression,
    InUnit,
    Leaf,
    Logic,
    Observed,
    Recode,
    Year,
)
from node.catalog.mapping.kinds import (
    BOOLEAN,
    DATE,
    LITERAL,
    NUMBER,
    Kind,
    Typed,
    Unmappable,
    common,
)
from node.intake.measures import ONE, measure

if TYPE_CHECKING:
    import polars as pl

    from node.intake.schema import ColumnSchema, TableSchema

DAYS_A_YEAR: Final = 365.25
OTHER_NUMBERS: Final = "other numbers"
_SIGNS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}


@dataclass(frozen=True)
class VaultTable:
    """A table in the vault that can be mapped from."""

    schema: TableSchema
    path: Path
    rows: int
    subjects: int
    digest: str

    @property
    def has_one_row_each(self) -> bool:
        """Whether no subject has several rows."""
        return self.rows == self.subjects


class Tables(Protocol):
    """The tables that a mapping may name."""

    def table(self, name: str) -> VaultTable | None:
        """Return a table, None if there is none of that name."""


@dataclass(frozen=True)
class Gathered:
    """A leaf whose value is gathered from rows: as which column, and around which date."""

    leaf: Leaf
    alias: str
    kind: Kind
    stage: int
    """0, or one more than that of the leaves that its window's date needs."""
    anchor: pl.Expr | None


@dataclass
class Compiler:
    """Compiles the expressions of one mapping; leaves that are the same are gathered once."""

    tables: Tables
    gathered: dict[Leaf, Gathered] = field(default_factory=dict)
    recoded: list[pl.Expr] = field(default_factory=list)
    """Of each recoding: the levels for which it has no name, else null. Taken out by the caller."""
    used: set[Leaf] = field(default_factory=set)
    """Leaves met since the caller emptied it."""

    def compile(self, node: Expression) -> Typed:
        """Return a node's polars expression; ``Unmappable`` if it makes no sense here."""
        compiled: Typed = _COMPILERS[type(node)](self, node)
        return compiled

    # ---- leaves --------------------------------------------------------------------------------

    def _constant(self, node: Constant) -> Typed:
        import polars as pl

        if isinstance(node.value, bool):
            return Typed(BOOLEAN, pl.lit(node.value))
        if isinstance(node.value, str):
            return Typed(Kind("category", levels={node.value: ""}), pl.lit(node.value))
        return Typed(LITERAL, pl.lit(float(node.value)))

    def _column(self, node: Column) -> Typed:
        table, declared = find_column(self.tables, node)
        if node.take is None and not table.has_one_row_each:
            raise Unmappable(
                "several-rows", f"table {node.table} has several rows for a subject; say take"
            )
        if node.take in ("first", "last") and not table.schema.time:
            raise Unmappable("several-rows", f"the rows of table {node.table} have no time")
        if node.within is not None and not table.schema.time:
            raise Unmappable("several-rows", f"the rows of table {node.table} have no time")
        kind = kind_of(declared)
        if kind.name == "category" and node.take in ("minimum", "maximum"):
            raise Unmappable("type-mismatch", "a category has no minimum and maximum")
        return self._gather(node, kind)

    def _observed(self, node: Observed) -> Typed:
        kinds = {
            "number": Kind("number", measure(node.unit)),
            "code": Kind("category", levels=None),
            "date": DATE,
        }
        return self._gather(node, kinds[node.value])

    def _gather(self, node: Leaf, kind: Kind) -> Typed:
        import polars as pl

        kind = NUMBER if node.take == "count" else BOOLEAN if node.take == "any" else kind
        found = self.gathered.get(node)
        if found is None:
            anchor, stage = None, 0
            if node.within is not None:
                outer, self.used = self.used, set()
                date = self.compile(node.within.of).need("date")
                stage = 1 + max((self.gathered[leaf].stage for leaf in self.used), default=0)
                self.used |= outer
                anchor = date.expr
            found = Gathered(node, f"_{len(self.gathered)}", kind, stage, anchor)
            self.gathered[node] = found
        self.used.add(node)
        return Typed(found.kind, pl.col(found.alias))

    # ---- numbers -------------------------------------------------------------------------------

    def _arithmetic(self, node: Arithmetic) -> Typed:
        import polars as pl

        operands = [self.compile(one).need("number") for one in node.operands]
        if node.operation in ("multiply", "divide", "power"):
            return self._product(node, operands)
        if any(one.kind.measure.offset for one in operands) and node.operation in (
            "add",
            "subtract",
        ):
            raise Unmappable("unit-mismatch", "degrees of a scale can't be added; use Kelvin")
        kind, terms = common(operands)
        if node.operation == "add":
            return Typed(kind, functools.reduce(operator.add, terms))
        if node.operation == "subtract":
            return Typed(kind, terms[0] - terms[1])
        known = functools.reduce(operator.and_, (term.is_not_null() for term in terms))
        chosen = pl.min_horizontal if node.operation == "minimum_of" else pl.max_horizontal
        return Typed(kind, pl.when(known).then(chosen(terms)))

    def _product(self, node: Arithmetic, operands: list[Typed]) -> Typed:
        if any(one.kind.measure.offset for one in operands):
            raise Unmappable("unit-mismatch", "degrees of a scale can't be multiplied; use Kelvin")
        stated = all(one.kind.is_stated for one in operands)
        if node.operation == "power":
            exponent = node.operands[1]
            assert isinstance(exponent, Constant)
            base = operands[0]
            power = float(exponent.value)
            unit = ONE.times(base.kind.measure, int(power)) if power.is_integer() else ONE
            if not power.is_integer() and base.kind.measure != ONE:
                raise Unmappable("unit-mismatch", "a root of a unit is none; convert to 1 first")
            return Typed(Kind("number", unit, base.kind.adopts, stated), base.expr**power)
        if node.operation == "multiply":
            unit, expr = ONE, None
            for one in operands:
                unit = unit.times(one.kind.measure)
                expr = one.expr if expr is None else expr * one.expr
            assert expr is not None
        else:
            unit = operands[0].kind.measure.times(operands[1].kind.measure, -1)
            expr = operands[0].expr / operands[1].expr
        adopts = all(one.kind.adopts for one in operands)
        return Typed(Kind("number", unit, adopts, stated), expr)

    def _in_unit(self, node: InUnit) -> Typed:
        inner = self.compile(node.of).need("number")
        wanted = measure(node.unit)
        is_said = inner.kind.measure == ONE and wanted.dimension
        if inner.kind.adopts or not inner.kind.is_stated or is_said:
            return Typed(Kind("number", wanted), inner.expr)
        return Typed(Kind("number", wanted), inner.within(wanted, node.molar_mass))

    # ---- truth ---------------------------------------------------------------------------------

    def _compare(self, node: Compare) -> Typed:
        left, right = self.compile(node.left), self.compile(node.right)
        if left.kind.name != right.kind.name:
            raise Unmappable(
                "type-mismatch", f"a {left.kind.name} is compared with a {right.kind.name}"
            )
        if left.kind.name in ("category", "boolean") and node.sign not in ("=", "!="):
            raise Unmappable("type-mismatch", f"a {left.kind.name} is neither less nor more")
        pair = [left.expr, right.expr]
        if left.kind.name == "number":
            _, pair = common([left, right])
        return Typed(BOOLEAN, _SIGNS[node.sign](*pair))

    def _logic(self, node: Logic) -> Typed:
        operands = [self.compile(one).need("boolean").expr for one in node.operands]
        if node.operation == "not":
            return Typed(BOOLEAN, ~operands[0])
        joined = operator.and_ if node.operation == "all_of" else operator.or_
        return Typed(BOOLEAN, functools.reduce(joined, operands))

    # ---- categories ----------------------------------------------------------------------------

    def _bins(self, node: Bins) -> Typed:
        import polars as pl

        inner = self.compile(node.of).need("number").expr
        chosen: Any = pl.when(inner.is_null() | inner.is_nan()).then(pl.lit(None, pl.String))
        for edge, level in zip(node.edges, node.levels, strict=False):
            chosen = chosen.when(inner < edge).then(pl.lit(level))
        kind = Kind("category", levels=dict.fromkeys(node.levels, ""))
        return Typed(kind, chosen.otherwise(pl.lit(node.levels[-1])))

    def _recode(self, node: Recode) -> Typed:
        import polars as pl

        inner = self.compile(node.of).need("category", "boolean", "number")
        text = as_level(inner)
        names = dict(node.levels)
        expr = text.replace_strict(names, default=None, return_dtype=pl.String)
        if node.otherwise is None:
            # A level is the hospital's own word; a number may be a patient's.
            shown = pl.lit(OTHER_NUMBERS) if inner.kind.name == "number" else text
            self.recoded.append(pl.when(~text.is_in(list(names))).then(shown))
        else:
            named = text.is_in(list(names))
            expr = pl.when(named).then(expr).when(text.is_not_null()).then(pl.lit(node.otherwise))
        if node.absent is not None:
            expr = pl.when(text.is_null()).then(pl.lit(node.absent)).otherwise(expr)
        new = [*names.values(), *(n for n in (node.otherwise, node.absent) if n is not None)]
        return Typed(Kind("category", levels=dict.fromkeys(new, "")), expr)

    # ---- dates, and what may be of any kind ----------------------------------------------------

    def _between(self, node: Between) -> Typed:
        import polars as pl

        start = self.compile(node.start).need("date").expr
        end = self.compile(node.end).need("date").expr
        if node.measured == "completed_years":
            years = (end.dt.year() - start.dt.year()).cast(pl.Float64)
            # Month and day as one number order as in a calendar.
            early = _in_year(end) < _in_year(start)
            return Typed(Kind("number", measure("a")), years - early.cast(pl.Float64))
        days = (end - start).dt.total_days().cast(pl.Float64)
        if node.measured == "days":
            return Typed(Kind("number", measure("d")), days)
        return Typed(Kind("number", measure("a")), days / DAYS_A_YEAR)

    def _year(self, node: Year) -> Typed:
        import polars as pl

        year = self.compile(node.of).need("date").expr.dt.year().cast(pl.Float64)
        return Typed(NUMBER, year)

    def _coalesce(self, node: Coalesce) -> Typed:
        import polars as pl

        operands = [self.compile(one) for one in node.operands]
        first = operands[0].kind.name
        for one in operands:
            one.need(first)
        if first == "number":
            kind, terms = common(operands)
            return Typed(kind, pl.coalesce(terms))
        levels: Mapping[str, str] | None = None
        if first == "category" and all(one.kind.levels is not None for one in operands):
            levels = {
                k: v for one in reversed(operands) for k, v in (one.kind.levels or {}).items()
            }
        return Typed(Kind(first, levels=levels), pl.coalesce([one.expr for one in operands]))


def find_column(tables: Tables, node: Column) -> tuple[VaultTable, ColumnSchema]:
    """Return a table and its column; ``Unmappable`` if one of them isn't here."""
    table = tables.table(node.table)
    if table is None:
        raise Unmappable("source-missing", f"there is no table {node.table}")
    for column in table.schema.kept:
        if column.variable == node.column:
            return table, column
    raise Unmappable("source-missing", f"table {node.table} has no column {node.column}")


def kind_of(column: ColumnSchema) -> Kind:
    """Return the kind of a table's column."""
    if column.type in ("integer", "number"):
        return Kind("number", measure(column.unit), is_stated=bool(column.unit))
    if column.type == "category":
        codes = {name: f"{c.terminology}|{c.code}" for name, c in column.codes.items()}
        return Kind("category", levels={name: codes.get(name, "") for name in column.levels})
    return BOOLEAN if column.type == "boolean" else DATE


def as_level(value: Typed) -> pl.Expr:
    """Return a value as a level's text: true or false, a whole number, or what it is."""
    import polars as pl

    if value.kind.name == "boolean":
        return pl.when(value.expr).then(pl.lit("true")).when(~value.expr).then(pl.lit("false"))
    if value.kind.name == "number":
        whole = value.expr.cast(pl.Int64, strict=False)
        text = value.expr.cast(pl.String)
        return pl.when(whole == value.expr).then(whole.cast(pl.String)).otherwise(text)
    return value.expr


def _in_year(date: pl.Expr) -> pl.Expr:
    import polars as pl

    return date.dt.month().cast(pl.Int32) * 32 + date.dt.day().cast(pl.Int32)


_COMPILERS: Final[dict[type, Callable[[Compiler, Any], Typed]]] = {
    Constant: Compiler._constant,
    Column: Compiler._column,
    Observed: Compiler._observed,
    Arithmetic: Compiler._arithmetic,
    Compare: Compiler._compare,
    Logic: Compiler._logic,
    Bins: Compiler._bins,
    Recode: Compiler._recode,
    Between: Compiler._between,
    Year: Compiler._year,
    Coalesce: Compiler._coalesce,
    InUnit: Compiler._in_unit,
}
