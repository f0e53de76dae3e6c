"""A hospital of nine patients makes a release for secure sums alone, if its policy allows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.errors import UsageError
from foundation.defaults import default_text
from node.catalog.store import Catalog
from node.commands import release
from node.commands.ingest import ingest
from node.config import create_home
from node.home import NodeHome
from tests.node.homes import new_home

SCHEMA = """
table = "rare"
subject = "patient"
[[columns]]
name = "arm"
type = "category"
levels = ["a", "b"]
[[columns]]
name = "score"
type = "number"
"""


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    made = create_home(new_home(tmp_path / "node"))
    schema, table = tmp_path / "rare.toml", tmp_path / "rare.csv"
    schema.write_text(SCHEMA)
    rows = [f"p{i},{'ab'[i % 2]},{20 + 3 * i + i % 4}" for i in range(9)]
    table.write_text("\n".join(["patient,arm,score", *rows]) + "\n")
    allow(made, allowed=True)
    ingest([table], schema=schema, home=made.root)
    return made


def allow(home: NodeHome, *, allowed: bool) -> None:
    text = default_text("policy/standard.toml")
    assert "small_sites = false" in text
    home.policy.write_text(
        text.replace("small_sites = false", f"small_sites = {str(allowed).lower()}")
    )


def create(home: NodeHome, name: str = "rare", **how: object) -> None:
    named = {"analysis": ["main=arm,score"], "small_site": True} | how
    release.create(name, table="rare", home=home.root, **named)  # type: ignore[arg-type]


def test_nine_patients_are_declared_for_sums_alone(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    create(home, cells="arm")
    said = capsys.readouterr().out
    assert "2 cells by arm, each of 4 subjects or more, in secure sums alone" in said
    catalog = Catalog.open(home)
    declaration = catalog.find_release("rare").manifest.declaration
    catalog.close()
    assert declaration is not None
    assert (declaration.sums_only, declaration.minimum_cohort, declaration.minimum_cell) == (
        True,
        4,
        3,
    )
    release.show("rare", home=home.root)
    assert "in secure sums alone" in capsys.readouterr().out


def test_without_the_option_nothing_of_nine_patients_is_exact(
    home: NodeHome, capsys: pytest.CaptureFixture[str]
) -> None:
    create(home, small_site=False)
    assert "exact answers: none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"analysis": None}, "one analysis set"),
        ({"analysis": ["one=arm", "two=score"]}, "one analysis set"),
        ({"cells": "arm,score=30"}, "one category"),
        ({"cells": "score=30"}, "one category"),
    ],
)
def test_what_a_release_for_sums_can_not_declare_is_refused(
    home: NodeHome, how: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        create(home, **how)


def test_a_policy_that_allows_no_small_sites_has_none(home: NodeHome) -> None:
    allow(home, allowed=False)
    with pytest.raises(UsageError, match="small_sites"):
        create(home)


def test_a_release_for_sums_is_not_granted_beside_another_of_its_table(home: NodeHome) -> None:
    create(home)
    create(home, "clear", small_site=False)
    release.grant("rare", project="north/birth", home=home.root)
    with pytest.raises(UsageError, match="sums alone"):
        release.grant("clear", project="north/birth", home=home.root)
    release.ungrant("rare", project="north/birth", home=home.root)
    release.grant("clear", project="north/birth", home=home.root)
    with pytest.raises(UsageError, match="sums alone"):
        release.grant("rare", project="north/birth", home=home.root)
