"""What sums of products give away, and numbers that are moved into another range.

Each attack first succeeds without its defence, in the same test.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from contract.models import Model
from contract.statistics.answers import Part
from contract.statistics.summaries import CoMoments
from contract.work import Statistic
from node.catalog.declaring import Minimums, Wishes
from node.catalog.releases import create_release
from node.catalog.selection import Selection
from node.deid.pseudonyms import Pseudonyms
from node.gate.fitting import FitsTheRelease
from node.intake.schema import parse_schema
from node.intake.tables import ingest_table
from tests.attacks.statistics.conftest import Node, csv_of, moments, rows
from tests.attacks.statistics.test_models import Fit, Step, part_of
from tests.contract.world import NOW

ATTACKS = (
    (
        "Covariance with a number that singles somebody out",
        "Huth et al. 2023, Accessibility of covariance information creates vulnerability in "
        "federated learning frameworks",
        "products are exact only where each of a number's few values is that of enough subjects, "
        "and nobody dominates a sum",
        "test_a_covariance_with_a_number_that_one_subject_has",
    ),
    (
        "Range calibration: the same sum with and without who is out of range",
        "Huth et al. 2023; DataSHIELD's known holes: limits from the analyst",
        "a model is of variables that the release itself keeps within the dictionary's range",
        "test_a_sum_less_the_same_sum_within_a_range",
    ),
)
TARGET, MARKER = 17, 123.456


def flagged(single: int) -> list[dict[str, Any]]:
    """Rows of whom so many are 31, the target first, and all others 30."""
    found = rows()
    for number, row in enumerate(found):
        row |= {"age": 31 if TARGET <= number < TARGET + single else 30, "sex": row["sex"] or "f"}
        row["marker"] = row["marker"] or 50
    found[TARGET]["marker"] = MARKER
    return found


def test_a_covariance_with_a_number_that_one_subject_has(node: Node) -> None:
    """Off are both halves of the rule: how many have a value (``minimum_cell``), and what share one
    has of a sum (``largest_contribution``).
    """
    products = Statistic(kind="comoments", variable="marker", across=("age",))
    hospital, before = node.hospital, node.release
    strict = hospital.policy

    def told(single: int, least: int, share: float) -> list[Part] | None:
        name = f"flag-{single}-{least}"
        node.release = node.freeze(flagged(single), name, Minimums(20, least, share))
        disclosure = strict.disclosure.model_copy(update={"minimum_cell": least})
        hospital.policy = strict.model_copy(update={"disclosure": disclosure})
        return node.ask(products, analysis="main", lane="exact")

    try:
        parts = told(1, 1, 1.0)
        assert parts is not None
        answer = parts[0].groups[""]
        assert isinstance(answer, CoMoments)
        # n, both means and the sum of products: the one's marker is left.
        flags = answer.n * (answer.means[1] - 30)
        assert flags == pytest.approx(1)
        assert answer.means[0] + answer.products[1] / flags == pytest.approx(MARKER)

        assert told(1, 10, 0.5) is None
        assert told(9, 10, 0.5) is None
        assert told(100, 10, 0.5) is not None
    finally:
        node.release, hospital.policy = before, strict
    with pytest.raises(ValueError, match="Extra inputs"):  # nor does a question bring a vector
        Statistic.model_validate({"kind": "comoments", "variable": "a", "vector": [1.0, 0.0]})


def outlying() -> list[dict[str, object]]:
    """The hospital's rows, all complete; one marker is above the dictionary's range."""
    found = rows()
    for row in found:
        row["marker"], row["sex"] = row["marker"] or 50, row["sex"] or "f"
    found[TARGET]["marker"] = 223.456
    return found


def frozen(node: Node, name: str, ranges: dict[str, float]) -> str:
    """A release of a table whose schema keeps the marker within these ranges, or within none."""
    columns = [
        {"name": "age", "type": "integer", "minimum": 20, "maximum": 100},
        {"name": "marker", "type": "number", **ranges},
    ]
    schema = parse_schema({"table": "trial", "subject": "pid", "columns": columns}, "ranges")
    table = [{name: row[name] for name in ("pid", "age", "marker")} for row in outlying()]
    hospital = node.hospital
    ingest_table(
        csv_of(table), schema, Pseudonyms(b"k" * 32), hospital.catalog, hospital.home,
        now=NOW, lenient=True,
    )  # fmt: skip
    made = create_release(
        hospital.catalog,
        hospital.home,
        name,
        Selection(table="trial"),
        now=NOW,
        wishes=Wishes(
            strata=[], analyses={"main": ("age", "marker")}, minimums=Minimums(20, 10, 0.5)
        ),
    )
    hospital.catalog.grant(made.digest, hospital.world.consortium, "birth", NOW)
    return made.digest


def test_a_sum_less_the_same_sum_within_a_range(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marker's total as such, less its total in a model: what the one has above the range."""
    model = Model.model_validate({"family": "linear", "outcome": "marker", "terms": [["age"]]})
    marker = Statistic(kind="moments", variable="marker")

    def learned(release: str) -> float | str:
        node.release, before = release, node.release
        try:
            told = moments(node.ask(marker, analysis="main", lane="exact"))
        finally:
            node.release = before
        fit = Fit(node, model, release=release)
        if fit.code:
            return fit.code
        factor = np.zeros((3, 3))
        factor[np.triu_indices(3)] = part_of(fit.step(Step(0))).information
        fit.close()
        return float(told.n * told.mean - (factor.T @ factor)[0, 2])

    loose = frozen(node, "no-range", {})
    with monkeypatch.context() as undefended:
        undefended.setattr(FitsTheRelease, "check", lambda *_: None)
        assert learned(loose) == pytest.approx(23.456, abs=1e-6)

    assert learned(loose) == "does-not-fit"
    kept = frozen(node, "range", {"minimum": 0, "maximum": 200})
    assert learned(kept) == pytest.approx(0, abs=1e-6)
