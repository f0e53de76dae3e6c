"""``release create`` proposes what can be asked exactly, says what it costs, and keeps to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from contract.dictionary import Variable
from contract.work import Statistic, StatisticsWork
from node.catalog.asked import Asked, ConsortiumRow
from node.catalog.declaring import Minimums, Wishes, declare
from node.catalog.manifest import MEMBERSHIP, ReleaseManifest
from node.catalog.membership import load_membership
from node.catalog.releases import verify_release
from node.catalog.store import Catalog
from node.catalog.strata import Categories, Held, StratumWish
from node.commands.release import app
from node.deid.pseudonyms import Pseudonyms
from node.gate import exact
from node.home import NodeHome
from node.intake.schema import parse_schema
from node.intake.tables import ingest_table
from tests.contract.world import World

SCHEMA = parse_schema(
    {
        "table": "trial",
        "subject": "pid",
        "columns": [
            {"name": "arm", "type": "category", "levels": ["A", "B"]},
            {"name": "age", "type": "integer"},
            {"name": "bmi", "type": "number"},
            {"name": "visit", "type": "date"},
        ],
    },
    "test",
)


@pytest.fixture
def hospital(catalog: Catalog, home: NodeHome, now: datetime) -> NodeHome:
    """Two hundred patients, three of them without a bmi."""
    rng = np.random.default_rng(5)
    rows = ["pid,arm,age,bmi,visit"]
    for i in range(200):
        bmi = "" if i < 3 else f"{rng.normal(27, 3):.2f}"
        rows.append(f"p{i},{'AB'[i % 2]},{rng.integers(30, 80)},{bmi},2020-01-05")
    ingest_table(
        ("\n".join(rows) + "\n").encode(), SCHEMA, Pseudonyms(b"k" * 32), catalog, home, now=now
    )
    return home


def create(home: NodeHome, *options: str) -> str:
    """Run the command; return what it says."""
    done = CliRunner().invoke(
        app, ["create", "r", "--table", "trial", *options, "--home", str(home.root)]
    )
    assert done.exception is None, done.exception
    return done.output


def test_cells_are_proposed_and_what_is_left_out_is_said(hospital: NodeHome) -> None:
    said = create(hospital, "--dry-run")
    assert "exact answers: 2 cells by arm, each of 20 subjects or more" in said
    assert "  age: count, moments, shape by arm" in said
    assert "subjects left out of exact answers" in said
    assert "visit" not in said  # a date has no exact answers
    assert "no grid is known for age, bmi: no exact histogram" in said
    assert "no grid is known for bmi:" in create(hospital, "--grid", "age=20:100:4", "--dry-run")
    assert not hospital.releases.exists() or not list(hospital.releases.iterdir())


def test_grids_are_of_the_tables_projects_then_the_dictionary_then_the_options(
    hospital: NodeHome, catalog: Catalog, now: datetime, tmp_path: Path
) -> None:
    world, asked = World(), Asked(catalog.engine)
    asked.put_consortium(ConsortiumRow(world.consortium, "kentucky", "x:1", "key", None), now)
    for name, table, bins in (("birth", "trial", 2), ("stroke", "other", 7)):
        age = Variable(name="age", kind="number", minimum=20, maximum=100, bins=bins)
        signed = world.signed_project(name=name, table=table, variables=(age,))
        asked.put_project(world.consortium, name, 1, signed)
    hospital.policy.write_text("[disclosure]\nreleases_apart = false\n")
    named = tmp_path / "d.toml"
    named.write_text(
        'name = "d"\ntable = "trial"\n[[variables]]\nname = "age"\nkind = "number"\n'
        "minimum = 20\nmaximum = 100\nbins = 4\n"
    )
    dictionary = ("--dictionary", str(named))
    for options, bins in (
        ((), 2),
        (dictionary, 4),
        ((*dictionary, "--grid", "age=20:100:5"), 5),
    ):
        digest = create(hospital, "--cells", "none", *options).split()[-1]
        declaration = verify_release(hospital, digest).declaration
        assert declaration is not None
        grid = next(v.grid for v in declaration.variables if v.name == "age")
        assert grid is not None
        assert grid.bins == bins


def test_the_manifest_declares_and_the_file_says_who_is_in_what(
    hospital: NodeHome, catalog: Catalog
) -> None:
    said = create(
        hospital, "--cells", "arm,age=50", "--analysis", "main=age,bmi", "--grid", "age=20:100:4"
    )
    digest = said.split()[-1]
    folder = hospital.release(digest)
    manifest = verify_release(hospital, digest)
    assert manifest.format == 4
    declaration = manifest.declaration
    assert declaration is not None
    assert [s.variable for s in declaration.strata] == ["arm", "age"]
    assert len(declaration.cells) == 4
    members = load_membership(folder, manifest, Minimums())
    assert int(members.sets["analysis:main"].sum()) == 197
    assert (members.sets["variable:bmi"] >= members.sets["analysis:main"]).all()
    assert MEMBERSHIP in {file.path for file in manifest.files}
    again = create(
        hospital, "--cells", "arm,age=50", "--analysis", "main=age,bmi", "--grid", "age=20:100:4"
    )
    assert again.split()[-1] == digest
    shown = CliRunner().invoke(app, ["show", digest, "--home", str(hospital.root)]).output
    assert "exact answers: 4 cells by arm, age=50" in shown
    assert "analysis main of age, bmi" in shown


def test_an_analysis_set_is_proposed_of_the_projects_variables_that_few_lack() -> None:
    rng = np.random.default_rng(6)
    names = ("arm", "age", "bmi", "score", "late")
    held: Held = {
        "arm": Categories(np.tile([0, 1], 100), ("A", "B")),
        **{name: rng.normal(50, 10, 200) for name in names[1:]},
    }
    for name, gone in (("bmi", 8), ("score", 12), ("late", 9)):
        column = held[name]
        assert not isinstance(column, Categories)
        column[rng.permutation(200)[:gone]] = np.nan
    wishes = Wishes(strata=[StratumWish("arm")], analysed=(*names, "elsewhere"))

    def proposed(wishes: Wishes) -> list[tuple[str, tuple[str, ...]]]:
        made = declare(held, [f"{i:08x}" for i in range(200)], wishes)
        return [(one.name, one.variables) for one in made.declaration.analyses]

    assert proposed(wishes) == [("complete", ("arm", "age", "bmi", "late"))]
    assert proposed(replace(wishes, analysed=("arm", "score"))) == []
    assert proposed(replace(wishes, analyses={"own": ("age",)})) == [("own", ("age",))]
    assert proposed(replace(wishes, analysed=None)) == []


def test_what_is_exact_of_several_variables_is_said(hospital: NodeHome) -> None:
    options = ("--analysis", "main=arm,age,bmi", "--grid", "age=20:100:2", "--cells", "none")
    said = create(hospital, *options, "--dry-run")
    assert "    together: of 3 pairs 1 counted and 3 multiplied; 0 threes counted\n" in said
    few = create(hospital, *options[:2], "--grid", "age=20:100:80", "--cells", "none", "--dry-run")
    assert "    together: of 3 pairs 0 counted and 3 multiplied; 0 threes counted\n" in few
    assert "together" not in create(hospital, "--analysis", "none", "--dry-run")


def test_a_release_of_format_3_says_nothing_of_several_variables(hospital: NodeHome) -> None:
    digest = create(hospital, "--cells", "none", "--analysis", "main=arm,age").split()[-1]
    new = verify_release(hospital, digest)
    old = ReleaseManifest.read(new.model_copy(update={"format": 3}).to_bytes())
    assert old.declaration is not None and new.declaration is not None
    assert new.declaration.analyses[0].products
    assert not old.declaration.analyses[0].products and not old.declaration.analyses[0].joint
    assert old.to_bytes() == ReleaseManifest.read(old.to_bytes()).to_bytes()
    assert b"products" not in old.to_bytes()
    work = StatisticsWork(
        ask=(Statistic(kind="crosstab", variable="arm", across=("age",)),), analysis="main"
    )
    assert exact.plan(work, World().project(), old.declaration) == [None]


def test_a_release_of_the_former_format_is_one_cell_with_a_set_for_each_variable(
    hospital: NodeHome,
) -> None:
    digest = create(hospital, "--cells", "none").split()[-1]
    manifest = verify_release(hospital, digest)
    old = ReleaseManifest.read(
        manifest.model_copy(update={"format": 2, "declaration": None}).to_bytes()
    )
    assert b"declaration" not in old.to_bytes()
    members = load_membership(hospital.release(digest), old, Minimums())
    assert members.declaration.cells == (((),),)
    # All sets are as large as the smallest, which three are not in.
    assert {int(inside.sum()) for inside in members.sets.values()} == {197}


@pytest.mark.parametrize(
    "wrong",
    [
        ("--cells", "height"),
        ("--cells", "age"),
        ("--cells", "age=old"),
        ("--cells", "arm=3"),
        ("--analysis", "main"),
        ("--analysis", "Main=age"),
        ("--analysis", "main=height"),
        ("--grid", "age=3"),
    ],
)
def test_what_can_not_be_declared_is_said_in_one_line(
    hospital: NodeHome, wrong: tuple[str, str]
) -> None:
    done = CliRunner().invoke(
        app, ["create", "r", "--table", "trial", *wrong, "--home", str(hospital.root)]
    )
    assert done.exception is not None
    assert "\n" not in str(done.exception)
