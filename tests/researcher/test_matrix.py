"""The table of a cross-site evaluation: all its figures, in 80 columns."""

from __future__ import annotations

import math

import pytest

from contract.errors import NotFound
from contract.work import SecureUpdates, TrainingWork
from researcher.matrix import MEAN, Matrix
from researcher.training import Round


def rounds(sites: list[str], metrics: tuple[str, ...] = ("loss",)) -> list[Round]:
    """Rounds of a job: own training first, then a row of the table in each."""
    rows = [
        Round(9 + i, "evaluate", {f"{m}/{model}/{at}": i + j / 10 for m in metrics
                                  for j, at in enumerate(sites)})
        for i, model in enumerate([*sites, MEAN])
    ]  # fmt: skip
    return [Round(1, "train", {"loss": 1.0}), Round(1, "evaluate", {"loss": 2.0}), *rows]


def test_rows_are_models_and_columns_are_sites() -> None:
    matrix = Matrix.of(rounds(["b", "a"]))["loss"]
    assert (matrix.models, matrix.sites) == (("b", "a", MEAN), ("b", "a"))
    assert matrix.values["a", "b"] == 1.0
    assert matrix.at_home("a") == pytest.approx(1.1)
    assert len(matrix.rows()) == 6


def test_each_metric_has_a_table_also_one_with_a_slash() -> None:
    assert set(Matrix.of(rounds(["a", "b"], ("loss", "top/1")))) == {"loss", "top/1"}


def test_any_number_of_sites_fits_80_columns() -> None:
    sites = [f"hospital-{i:02d}" for i in range(14)]
    text = str(Matrix.of(rounds(sites))["loss"])
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"at {site}" in " ".join(text.split()) or site in text for site in sites)


def test_a_site_that_gave_no_answer_leaves_a_gap() -> None:
    some = rounds(["a", "b"])
    del some[2].metrics["loss/a/b"]
    matrix = Matrix.of(some)["loss"]
    assert ("a", "b") not in matrix.values
    assert math.isnan(matrix.at_home("c"))
    assert "nan" not in str(matrix)


def test_a_secure_job_is_no_cross_site_evaluation() -> None:
    with pytest.raises(ValueError, match="shows no site's own model"):
        TrainingWork(bundle="0" * 64, cross_evaluation=True, secure=SecureUpdates(clip_norm=1.0))


def test_a_job_of_another_kind_has_no_table() -> None:
    with pytest.raises(NotFound, match="no cross-site evaluation"):
        Matrix.of([Round(1, "evaluate", {"loss": 1.0})])
