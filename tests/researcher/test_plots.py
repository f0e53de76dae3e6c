"""What is drawn: curves, bars and forests have the findings' figures, and their axes say what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from typer.testing import CliRunner

from contract.dictionary import Variable
from contract.errors import DocumentError, UsageError
from researcher import cli
from researcher.consortium import Consortium
from researcher.models import ModelAnswer
from researcher.plots import Bars, Curve, Curves, Heat, draw
from tests.researcher import test_imaging, test_models
from tests.researcher.local import LocalConsortium, split

VARIABLES = (
    Variable(name="months", kind="number", minimum=0, maximum=24, bins=24, whole=True),
    Variable(name="risk", kind="number", minimum=0, maximum=1, bins=20),
    Variable(name="age", kind="number", minimum=20, maximum=90, bins=7),
    Variable(name="died", kind="category", levels=("no", "yes")),
    Variable(name="arm", kind="category", levels=("control", "treatment")),
)
RANDOM = np.random.default_rng(5)
RISK = RANDOM.beta(2, 2, 400)
TABLE = {
    "months": np.ceil(RANDOM.exponential(12, 400)).clip(1, 24),
    "risk": RISK,
    "age": RANDOM.uniform(20, 90, 400),
    "died": (RANDOM.random(400) < RISK).astype(np.int64),
    "arm": RANDOM.integers(0, 2, 400),
}


@pytest.fixture
def consortium() -> LocalConsortium:
    return LocalConsortium(VARIABLES, split(TABLE, 3))


def line(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    """Return where a line with this label goes."""
    (found,) = (one for one in axes.get_lines() if one.get_label() == label)
    return list(found.get_xdata()), list(found.get_ydata())  # type: ignore[arg-type]


def test_a_survival_curve_has_a_step_for_each_time_and_its_band(
    consortium: LocalConsortium,
) -> None:
    found = consortium.study().survival("months", "died", by="arm")
    axes = found.plot()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("months", "survival")
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["control", "treatment"]
    for arm, table in found.result.tables.items():
        x, y = line(axes, arm)
        assert (x[0], y[0]) == (0, 1)
        assert y[1:] == pytest.approx(table.survival[table.at_risk > 0].tolist())
    assert len(axes.collections) == 2  # the bands


def test_a_survival_table_tells_the_cumulative_hazard_with_its_interval(
    consortium: LocalConsortium,
) -> None:
    found = consortium.study().survival("months", "died")
    table = found.result.tables["all"]
    row = found.tidy()[3]
    place = int(np.flatnonzero(table.times == row["months"])[0])
    low, high = table.hazard_band()
    assert [row[name] for name in ("cum. hazard", "hazard.low", "hazard.high")] == [
        table.cumulative_hazard[place], low[place], high[place],
    ]  # fmt: skip
    assert "hazard" in str(found)
    grouped = consortium.study().survival("months", "died", by="arm")
    assert max(map(len, str(grouped).splitlines())) <= 80


def test_a_roc_curve_goes_from_corner_to_corner_and_a_calibration_has_its_diagonal(
    consortium: LocalConsortium,
) -> None:
    study = consortium.study()
    axes = study.roc("risk", "died").plot()
    x, y = axes.get_lines()[0].get_data()
    assert sorted([(float(x[0]), float(y[0])), (float(x[-1]), float(y[-1]))]) == [(0, 0), (1, 1)]
    assert axes.get_xlim() == (0, 1)
    found = study.calibration("risk", "died")
    axes = found.plot()
    predicted, seen = (np.asarray(one, float) for one in axes.get_lines()[0].get_data())
    assert np.abs(predicted - seen).max() < 0.35  # it is calibrated
    ends = [list(map(float, one.get_xdata())) for one in axes.get_lines()]  # type: ignore[arg-type]
    assert [0.0, 1.0] in ends


def test_bars_say_whether_they_are_of_subjects_or_of_pixels(consortium: LocalConsortium) -> None:
    study = consortium.study()
    axes = study.histogram("age").plot()
    assert axes.get_ylabel() == "subjects"
    own = LocalConsortium(test_imaging.PROJECT.variables, split(test_imaging.TABLE, 3)).study()
    axes = own.intensities("ct").plot()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("CT intensity", "share of pixels")


def test_a_forest_has_a_square_for_each_coefficient_on_a_scale_of_ratios() -> None:
    axes = test_models.COX.plot()
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "hazard ratio"
    assert [t.get_text() for t in axes.get_yticklabels()] == ["fin", "age", "race[other]", "prio"]
    squares = [one for one in axes.get_lines() if one.get_marker() == "s"]
    assert [float(one.get_xdata()[0]) for one in squares] == pytest.approx(  # type: ignore[index]
        [row.ratio for row in test_models.COX.rows()]
    )
    axes = test_models.EACH.plot("age")
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == [*test_models.SITES, "pooled"]
    with pytest.raises(DocumentError, match="no fits of single sites"):
        test_models.COX.plot("age")


def test_figures_are_drawn_on_axes_that_are_given() -> None:
    axes = draw(Heat(("a", "b"), ("a", "b"), ((1.0, 0.5), (0.5, 1.0)), -1, 1))
    assert len(axes.texts) == 4
    other = draw(Curves((Curve("", (0, 1), (0, 1)),), "x", "y"))
    assert draw(Bars((0, 1, 2), (("", (3, -1)),), "x"), other) is other


class _Commanded(LocalConsortium):
    """A consortium for a command, that has one model."""

    def model(self, *_: Any, **__: Any) -> ModelAnswer:
        return test_models.COX


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    @contextmanager
    def connect(_home: Path) -> Iterator[LocalConsortium]:
        yield _Commanded(VARIABLES, split(TABLE, 3))

    monkeypatch.setattr(Consortium, "connect", connect)
    return CliRunner()


@pytest.mark.parametrize(
    "asked",
    [
        ("analyse", "survival", "months", "died"),
        ("analyse", "roc", "risk", "died"),
        ("analyse", "calibration", "risk", "died"),
        ("analyse", "histogram", "age"),
        ("fit", "Surv(week, arrest) ~ fin + age + race + prio", "--family", "cox"),
    ],
    ids=lambda asked: " ".join(asked[:2]),
)
@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_commands_draw_into_a_file_of_each_kind(
    command: CliRunner, tmp_path: Path, asked: tuple[str, ...], suffix: str
) -> None:
    path = tmp_path / f"drawn{suffix}"
    more = ("--analysis", "main") if asked[0] == "fit" else ()
    done = command.invoke(cli.app, [*asked, "-p", "birth", *more, "--plot", str(path)])
    assert done.exit_code == 0, (done.output, done.exception)
    begins = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(begins)
    assert f"drawn into {path}" in done.stderr


def test_a_plot_into_another_kind_of_file_is_refused_before_anything_is_asked(
    command: CliRunner, tmp_path: Path
) -> None:
    done = command.invoke(
        cli.app,
        ["analyse", "histogram", "age", "-p", "birth", "--plot", str(tmp_path / "drawn.gif")],
    )
    assert isinstance(done.exception, UsageError)
    assert not list(tmp_path.iterdir())
