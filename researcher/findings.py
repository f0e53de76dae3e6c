"""What an analysis found: tidy rows, a table for terminals and notebooks, a plot, its methods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from contract.errors import UsageError
from contract.receipts import Receipt
from contract.statistics.estimates import CONFIDENCE, Estimate, HypothesisTest
from researcher.absent import percent
from researcher.rendering import WIDTH, as_html, as_text
from researcher.statistics import PLUS_MINUS, StatisticsAnswer

if TYPE_CHECKING:
    import polars
    from matplotlib.axes import Axes

    from researcher.plots import Figure

Cell = str | int | float
Figures = tuple[tuple[str, Estimate | HypothesisTest], ...]
"""Tests and estimates, each with the group or variable that it is of, or ""."""
_LAYOUTS = (
    (HEAVY_HEAD, 1, 6), (HEAVY_HEAD, 1, 5), (HEAVY_HEAD, 1, 4), (SIMPLE_HEAD, 1, 4),
    (SIMPLE_HEAD, 0, 4), (SIMPLE_HEAD, 0, 3),
)  # fmt: skip
"""How a table is drawn, with how much room about a cell, and with how many digits; the first that
fits is taken."""
_HEADINGS = {
    "conf.high": "to",
    "cell.low": "cell from",
    "cell.high": "to",
    "bins.low": "bins: from",
    "bins.high": "to",
    "hazard.low": "hazard from",
    "hazard.high": "hazard to",
    "p.value": "p",
}
"""What a table's column is headed by where that isn't its name."""


@dataclass(frozen=True)
class Printed:
    """What is printed of a finding that has more rows, or other columns, than a page holds."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    ends: tuple[int, ...] = ()
    """How many rows there are above the end of each of its blocks."""


@dataclass(frozen=True)
class Finding:
    """One analysis's outcome.

    ``result`` is what was worked out, as ``contract.statistics`` gives it; ``rows`` say the same,
    one figure or one line of a table each, in ``columns``. ``answers`` are the questions' answers
    with their receipts.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    result: Any
    answers: tuple[StatisticsAnswer, ...]
    about: str
    """What was done, in sentences fit for a paper."""
    figure: Figure | None = None
    remarks: tuple[str, ...] = field(default=())
    """What a reader must know of the figures themselves."""
    figures: Figures = field(default=())
    """The tests and estimates that are told beside the rows."""
    fitted: tuple[Receipt, ...] = field(default=())
    """Of models that it pools: their receipts."""
    confidence: float = CONFIDENCE
    """Of all its intervals."""
    in_print: Printed | None = None
    """What is printed instead of ``rows``."""

    @property
    def lane(self) -> str:
        """By which lane of the gate it came: ``exact``, ``dp``, or ``dp and exact``."""
        return " and ".join(sorted({lane for a in self.answers for lane in a.lane.split(" and ")}))

    @property
    def notes(self) -> list[str]:
        """What is not in it, what noise there is, and what makes a figure doubtful."""
        said = [*self.remarks, *(note for answer in self.answers for note in answer.notes)]
        return [note for note in dict.fromkeys(said) if note != PLUS_MINUS]

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """The sites' signed receipts of all that it rests on."""
        return (*self.fitted, *(r for answer in self.answers for r in answer.receipts))

    @property
    def methods(self) -> str:
        """A paragraph fit for a paper: what was done, where, and how it was protected."""
        return methods(self.answers, self.about)

    def tidy(self) -> list[dict[str, Cell]]:
        """Return the rows as records. Figures are numbers, an interval's ends ``conf.low`` and
        ``conf.high``.
        """
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def glance(self) -> list[dict[str, Cell]]:
        """Return a record of each test and estimate, with the names that R's broom has.

        What isn't known of one is left out of its record.
        """
        return [_glanced(of, one) for of, one in self.figures]

    def origin(self) -> dict[str, object]:
        """Return where it came from: by which lane, of which sites and jobs, with its notes."""
        jobs = [answer.job for answer in self.answers] or sorted({r.job for r in self.receipts})
        sites = {site for answer in self.answers for site in answer.answered}
        return origin(self.lane, sites or {r.site for r in self.receipts}, jobs, self.notes)

    def to_polars(self) -> polars.DataFrame:
        """Return the rows as a Polars frame; ``UsageError`` where Polars isn't installed."""
        try:
            import polars
        except ImportError:
            raise UsageError("Polars isn't installed: pip install polars.") from None
        return polars.DataFrame(self.tidy(), infer_schema_length=None, strict=False)

    def to_pandas(self) -> Any:
        """Return the rows as a pandas frame; ``UsageError`` where pandas isn't installed."""
        try:
            import pandas  # type: ignore[import-untyped]
        except ImportError:
            raise UsageError("pandas isn't installed: pip install pandas.") from None
        return pandas.DataFrame(self.tidy(), columns=list(self.columns))

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw it, with Matplotlib, on ``axes`` or new ones.

        ``UsageError`` where Matplotlib isn't installed, or when there is nothing to draw.
        """
        if self.figure is None:
            raise UsageError(f"There is nothing to draw of: {self.title}.")
        from researcher.plots import draw

        return draw(self.figure, axes)

    def table(self) -> Table:
        """Return the rows as a table that fits 80 columns, without columns that say nothing."""
        page = self.in_print or Printed(self.columns, self.rows)
        headings = [self._heading(name) for name in page.columns]
        kept = [
            place
            for place in range(len(headings))
            if not page.rows or any(shown(row[place]) for row in page.rows)
        ]
        numeric = [any(not isinstance(row[at], str) for row in page.rows) for at in kept]
        for layout in _LAYOUTS:
            box, room, digits = layout
            rows = [[_cell(page.columns[at], row[at], digits) for at in kept] for row in page.rows]
            widths = least_widths([headings[at] for at in kept], rows)
            if fits(widths, room):
                break
        table = Table(title=self.title, title_justify="left", box=box, padding=(0, room))
        # Rich folds cells too where headings don't fit in a line.
        whole = [max(width, len(headings[at])) for at, width in zip(kept, widths, strict=True)]
        narrow = fits(widths, room) and not fits(whole, room)
        for at, right, width in zip(kept, numeric, widths, strict=True):
            justify: Literal["left", "right"] = "right" if right else "left"
            table.add_column(
                headings[at], justify=justify, overflow="fold", width=width if narrow else None
            )
        for above, row in enumerate(rows, 1):
            table.add_row(*row, end_section=above in page.ends)
        return table

    def _heading(self, name: str) -> str:
        if name == "conf.low":
            return f"{100 * self.confidence:g}% from"
        return _HEADINGS.get(name, name)

    def printed(self) -> Group:
        """Return all that is shown of it."""
        notes = [Text(note) for note in self.notes]
        sites = len({site for answer in self.answers for site in answer.answered})
        where = [Text(f"{sites} sites, lane {self.lane}")] if self.answers else []
        return Group(self.table(), *where, *notes)

    def __str__(self) -> str:
        return as_text(self.printed())

    def _repr_html_(self) -> str:
        return as_html(self.printed())


def origin(
    lane: str, sites: Iterable[str], jobs: Sequence[str], notes: Sequence[str]
) -> dict[str, object]:
    """Return the record that ``--json`` ends with, for whoever reads nothing else."""
    return {
        "figure": "answer",
        "lane": lane or "exact",
        "sites": sorted(sites),
        "jobs": list(jobs),
        "notes": list(notes),
    }


def least_widths(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the width that each column takes at least; a heading is folded between words."""
    return [
        max(len(word) for word in [*heading.split(), "", *(row[at] for row in rows)])
        for at, heading in enumerate(headings)
    ]


def fits(widths: Sequence[int], room: int) -> bool:
    """Whether 80 columns hold a table's columns with so much room on both sides of a cell."""
    return sum(widths) + (2 * room + 1) * len(widths) + 1 <= WIDTH


def shown(cell: Cell, digits: int = 6) -> str:
    """Return a cell as a person reads it: so many digits, whole numbers and words as they are."""
    if isinstance(cell, str):
        return cell
    if not math.isfinite(cell):
        return "" if math.isnan(cell) else str(cell)
    return str(int(cell)) if cell == int(cell) and abs(cell) < 1e15 else f"{cell:.{digits}g}"


def _cell(column: str, cell: Cell, digits: int) -> str:
    if not isinstance(cell, str):
        if column == "p.value":
            return p_value(cell)
        if column == "missing information" and not math.isnan(cell):
            return f"{cell:.0%}"
    return shown(cell, digits)


def _glanced(of: str, one: Estimate | HypothesisTest) -> dict[str, Cell]:
    said: dict[str, Cell] = {"of": of} if of else {}
    said["figure"] = one.name
    estimate = one if isinstance(one, Estimate) else one.estimate
    found: dict[str, float] = {}
    if estimate is not None:
        found = {
            "estimate": estimate.value,
            "std.error": estimate.standard_error,
            "conf.low": estimate.low,
            "conf.high": estimate.high,
        }
    if isinstance(one, HypothesisTest):
        names = ("df", "df2")
        found |= {"statistic": one.statistic, **dict(zip(names, one.degrees, strict=False))}
        found["p.value"] = one.p_value
    return {**said, **{name: value for name, value in found.items() if not math.isnan(value)}}


def p_value(p: float) -> str:
    """Return a p value as journals print it."""
    if math.isnan(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """Return "0.93 (0.63 to 1.37)"."""
    if math.isnan(value):
        return "undefined"
    if math.isnan(low):
        return f"{value:.{digits}g}"
    return f"{value:.{digits}g} ({low:.{digits}g} to {high:.{digits}g})"


def methods(answers: Sequence[StatisticsAnswer], about: str) -> str:
    """Return a methods paragraph for what was worked out from some answers."""
    if not answers:
        return about
    project = answers[0].project
    there = sorted({site for answer in answers for site in answer.answered})
    lanes = {lane for answer in answers for lane in answer.lane.split(" and ")}
    sentences = list(_sentences(answers, lanes))
    jobs = ", ".join(answer.job[:12] for answer in answers)
    return " ".join(
        [
            f"Data of {len(there)} sites ({', '.join(there)}) were analysed by federation with "
            f"Wardgate {version('wardgate')}, under project {project.name} version "
            f"{project.version} ({project.ethics_reference}).",
            "No individual's data left a site; each site's own disclosure control passed what did.",
            about,
            *sentences,
            f"Each site signed what it sent (jobs {jobs}).",
        ]
    )


def _sentences(answers: Sequence[StatisticsAnswer], lanes: set[str]) -> Iterator[str]:
    if "exact" in lanes:
        yield (
            "Exact figures are of aggregates over groups of subjects that the sites had declared, "
            "none smaller than their policies allow; merged, they are those of the pooled rows."
        )
    if "dp" in lanes:
        spent = max((s.epsilon for answer in answers for s in answer.spent), default=0.0)
        yield (
            "Figures with noise are differentially private"
            + (f" (epsilon {spent:.3g} at most at a site for a question)" if spent else "")
            + "; the noise is in the intervals where they say so."
        )
    missing = sorted({m.site for answer in answers for m in answer.missing})
    if missing:
        share = max(answer.absent_share for answer in answers)
        of = f", with {percent(share)} of the subjects listed" if share > 0 else ""
        yield f"Not in the analysis: {', '.join(missing)}{of}."
    parts = [part for answer in answers for part in answer.parts]
    held = sorted({site for part in parts for site in (*part.withheld, *part.partial)})
    if held:
        yield f"Not in all of the figures, by their own disclosure control: {', '.join(held)}."
    unnamed = max((part.unnamed for part in parts), default=0)
    if unnamed:
        yield f"Of the sites in secure sums up to {unnamed} withheld theirs of some figures."
