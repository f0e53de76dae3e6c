"""Plots of findings: what to draw, as plain data, and how Matplotlib draws it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from contract.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = tuple[float, ...]
SUFFIXES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Forest:
    """Estimates with their intervals, one line each; ``null`` is where nothing differs."""

    labels: tuple[str, ...]
    values: Floats
    lows: Floats
    highs: Floats
    name: str
    null: float = 0.0
    logarithmic: bool = False


@dataclass(frozen=True)
class Curve:
    """One curve; ``low`` and ``high`` are its band, empty without one."""

    label: str
    x: Floats
    y: Floats
    low: Floats = ()
    high: Floats = ()


@dataclass(frozen=True)
class Curves:
    """Curves on one pair of axes. ``steps``: constant until the next x. ``diagonal``: y = x too."""

    curves: tuple[Curve, ...]
    x_name: str
    y_name: str
    steps: bool = False
    diagonal: bool = False
    unit_square: bool = False


@dataclass(frozen=True)
class Bars:
    """Counts in a grid's cells, one series for each group; or what ``y_name`` says."""

    edges: Floats
    series: tuple[tuple[str, Floats], ...]
    x_name: str
    y_name: str = "subjects"


@dataclass(frozen=True)
class Heat:
    """A matrix with names of its rows and columns."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[Floats, ...]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Boxes:
    """A box for each label, of five numbers: whisker, quartile, median, quartile, whisker."""

    labels: tuple[str, ...]
    numbers: tuple[Floats, ...]
    y_name: str


@dataclass(frozen=True)
class Density:
    """Counts on two grids, by the bins along x and then those along y."""

    x_edges: Floats
    y_edges: Floats
    counts: tuple[Floats, ...]
    x_name: str
    y_name: str


Figure = Forest | Curves | Bars | Heat | Boxes | Density


def draw(figure: Figure, axes: Axes | None = None) -> Axes:
    """Draw on ``axes`` or new ones; ``UsageError`` where Matplotlib isn't installed."""
    if axes is None:
        axes = _axes()
    match figure:
        case Forest():
            _forest(figure, axes)
        case Curves():
            _curves(figure, axes)
        case Bars():
            _bars(figure, axes)
        case Heat():
            _heat(figure, axes)
        case Boxes():
            _boxes(figure, axes)
        case Density():
            _density(figure, axes)
    return axes


def save(figure: Figure, path: Path) -> None:
    """Draw into a file: PNG, SVG or PDF, by its suffix. ``UsageError`` for another."""
    check_suffix(path)
    canvas = draw(figure).get_figure(root=True)
    assert canvas is not None
    canvas.savefig(path, bbox_inches="tight")


def check_suffix(path: Path) -> None:
    """Raise ``UsageError`` for a file that no plot can be written to."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"A plot is written as one of {', '.join(SUFFIXES)}, not {path.name}.")


def _axes() -> Axes:
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        raise UsageError("Plots need Matplotlib: pip install 'wardgate[plots]'.") from None
    return Canvas(figsize=(6.4, 4.2), dpi=120, layout="constrained").subplots()


def _forest(figure: Forest, axes: Axes) -> None:
    places = range(len(figure.labels), 0, -1)
    for place, value, low, high in zip(
        places, figure.values, figure.lows, figure.highs, strict=True
    ):
        axes.plot([low, high], [place, place], color="black", linewidth=1)
        axes.plot([value], [place], "s", color="black", markersize=5)
    axes.axvline(figure.null, color="grey", linestyle="--", linewidth=1)
    axes.set_yticks(list(places), figure.labels)
    axes.set_ylim(0.5, len(figure.labels) + 0.5)
    if figure.logarithmic:
        axes.set_xscale("log")
    axes.set_xlabel(figure.name)


def _curves(figure: Curves, axes: Axes) -> None:
    for curve in figure.curves:
        if figure.steps:
            (line,) = axes.step(curve.x, curve.y, where="post", label=curve.label)
        else:
            (line,) = axes.plot(curve.x, curve.y, marker=".", label=curve.label)
        if curve.low:
            axes.fill_between(
                curve.x,
                curve.low,
                curve.high,
                step="post" if figure.steps else None,
                alpha=0.2,
                color=line.get_color(),
                linewidth=0,
            )
    if figure.diagonal:
        axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=1)
    if figure.unit_square:
        axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(figure.x_name)
    axes.set_ylabel(figure.y_name)
    if len(figure.curves) > 1 or figure.curves[0].label:
        axes.legend()


def _bars(figure: Bars, axes: Axes) -> None:
    for label, heights in figure.series:
        axes.stairs(_from_zero(heights), figure.edges, fill=True, alpha=0.5, label=label or None)
    axes.set_xlabel(figure.x_name)
    axes.set_ylabel(figure.y_name)
    if len(figure.series) > 1:
        axes.legend()


def _from_zero(heights: Sequence[float]) -> list[float]:
    return [max(height, 0.0) for height in heights]


def _heat(figure: Heat, axes: Axes) -> None:
    axes.imshow(figure.values, vmin=figure.low, vmax=figure.high, cmap="RdBu_r")
    axes.set_xticks(range(len(figure.columns)), figure.columns, rotation=45, ha="right")
    axes.set_yticks(range(len(figure.rows)), figure.rows)
    for (i, row), j in itertools.product(enumerate(figure.values), range(len(figure.columns))):
        axes.text(j, i, f"{row[j]:.2g}", ha="center", va="center", fontsize=8)


def _boxes(figure: Boxes, axes: Axes) -> None:
    names = ("whislo", "q1", "med", "q3", "whishi")
    boxes = [
        dict(zip(names, five, strict=True)) | {"label": label, "fliers": []}
        for label, five in zip(figure.labels, figure.numbers, strict=True)
    ]
    axes.bxp(boxes, showfliers=False)
    axes.set_ylabel(figure.y_name)


def _density(figure: Density, axes: Axes) -> None:
    columns = [_from_zero(column) for column in figure.counts]
    rows = list(zip(*columns, strict=True))
    mesh = axes.pcolormesh(figure.x_edges, figure.y_edges, rows, cmap="viridis")
    axes.figure.colorbar(mesh, ax=axes, label="subjects")
    axes.set_xlabel(figure.x_name)
    axes.set_ylabel(figure.y_name)
