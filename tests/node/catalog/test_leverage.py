"""Sums of a derived number tell no more of one subject than its kin's do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from node.catalog.declaring import Declared, Minimums, Wishes, declare
from node.catalog.kinship import Kinship
from node.catalog.strata import Categories, StratumWish


def patients(size: int = 600) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    age = np.clip(np.round(rng.normal(60, 11, size)), 25, 90)
    age[5] = 93
    hba = np.round(rng.normal(6.5, 1, size), 1)
    hba[5] = 11.7
    weight = np.round(rng.normal(75, 12, size), 1)
    height = np.round(rng.normal(1.7, 0.08, size), 2)
    sex = Categories(rng.integers(0, 2, size), ("f", "m"))
    return {"age": age, "hba": hba, "weight": weight, "height": height, "sex": sex}


def released(held: dict[str, Any], names: tuple[str, ...], derived: tuple[str, ...]) -> Declared:
    kept = {name: held[name] for name in names}
    wishes = Wishes(
        strata=[],
        analyses={"main": names},
        minimums=Minimums(20, 10, 0.5),
        kinship=Kinship((tuple(n for n in names if n != "sex"),), (), (), derived),
    )
    return declare(kept, [f"{i:08x}" for i in range(len(held["age"]))], wishes)


def kinds(found: Declared, name: str) -> set[str]:
    return set(found.declaration.variable(name).by)  # type: ignore[union-attr]


def products(found: Declared, name: str) -> set[str]:
    (main,) = found.declaration.analyses
    return {n for one in main.products if name in one.variables for n in one.variables} - {name}


@pytest.mark.parametrize("size", [1e-6, 1e-9, 1e-12])
def test_a_sum_that_carries_one_persons_value_is_not_exact(size: float) -> None:
    held = patients()
    held["d"] = held["age"] / 100 + size * held["hba"] * np.exp(-50 * (held["age"] - 93) ** 2)
    names = ("age", "hba", "d")
    # The attack, where nobody looks at kin: both sums are exact, over the same rows.
    loose = released(held, names, ())
    assert "moments" in kinds(loose, "d") & kinds(loose, "age")
    assert (loose.variables["d"] & loose.variables["age"]).all()
    if size == 1e-6:
        told = (held["d"].sum() - held["age"].sum() / 100) / size
        assert told == pytest.approx(11.7, abs=0.1)
    found = released(held, names, ("d",))
    assert not kinds(found, "d") & {"moments", "shape"}
    assert not products(found, "d")
    assert "moments" in kinds(found, "age") & kinds(found, "hba")


def test_a_product_that_carries_one_persons_value_is_not_exact() -> None:
    """30 old people hide one another; of those in one level there is but one."""
    held = patients()
    old = np.arange(600) < 30
    held["age"][old] = 92
    held["d"] = held["age"] / 100 + 1e-6 * held["hba"] * old
    held["sex"].codes[old] = 0
    held["sex"].codes[7] = 1
    names = ("age", "hba", "d", "sex")
    assert "sex" in products(released(held, names, ()), "d")
    assert "sex" not in products(released(held, names, ("d",)), "d")


def test_honest_derived_numbers_stay_exact() -> None:
    held = patients(3000)
    held["bmi"] = held["weight"] / held["height"] ** 2
    found = released(held, ("weight", "height", "bmi", "sex"), ("bmi",))
    assert {"moments", "shape"} <= kinds(found, "bmi")
    assert {"weight", "height", "sex"} <= products(found, "bmi")


def test_a_logarithm_and_another_unit_stay_exact() -> None:
    held = patients(3000)
    crp = np.round(np.exp(np.random.default_rng(0).normal(2, 0.6, 3000)), 2)
    held |= {"crp": crp, "log": np.log(crp), "other": crp * 9.524}
    found = released(held, ("crp", "log", "other"), ("log", "other"))
    assert "moments" in kinds(found, "log")
    assert kinds(found, "crp") == kinds(found, "other")
    assert products(found, "crp") >= {"log"}


def test_small_pieces_are_looked_at_one_by_one() -> None:
    """What one of 3000 tells is no smaller where the others' cells are fine."""
    held = patients(3000)
    held["d"] = held["age"] / 100 + 1e-6 * held["hba"] * (held["age"] == 93)
    kept = {name: held[name] for name in ("age", "hba", "d", "sex")}
    kinship = Kinship((("age", "hba", "d"),), (), (), ("d",))
    wishes = Wishes(strata=[StratumWish("sex")], minimums=Minimums(), kinship=kinship)
    found = declare(kept, [f"{i:08x}" for i in range(3000)], wishes)
    assert "moments" in kinds(found, "age") - kinds(found, "d")


def test_categories_that_share_one_source_are_counted_together() -> None:
    """The attack: how many are 80 or older, less how many a hair's breadth above."""
    rng = np.random.default_rng(2)
    age = np.round(rng.normal(60, 11, 600))
    age[np.abs(age - 80) < 1] = 78
    age[7] = 80
    weight = rng.normal(75, 10, 600)

    def cut(where: Any) -> Categories:
        return Categories(where.astype(np.int64), ("no", "yes"))

    held: dict[str, Any] = {"old": cut(age >= 80), "older": cut(age + 1e-9 * weight >= 80.5)}
    assert held["old"].codes.sum() - held["older"].codes.sum() == 1

    def exact(shared: tuple[tuple[str, ...], ...]) -> list[bool]:
        kinship = Kinship((("old", "older"),), (), shared, ("old", "older"))
        wishes = Wishes(strata=[], minimums=Minimums(20, 10, 0.5), kinship=kinship)
        found = declare(held, [f"{i:08x}" for i in range(600)], wishes)
        return ["levels" in kinds(found, name) for name in held]

    assert exact(()) == [True, True]
    assert exact((("old", "older"),)) == [True, False]
