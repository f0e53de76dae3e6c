"""A release says whose consent was in force and who was linked to what is held, as columns."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from contract.dictionary import Variable
from contract.errors import DataError
from node.catalog.consents import Consents
from node.catalog.declaring import Minimums, Wishes, declare
from node.catalog.deriving import _kinship, of_no_table
from node.catalog.dictionary import parse_dictionary, to_toml
from node.catalog.freezing import Plan, plan_release
from node.catalog.groups import Group, Groups, Link
from node.catalog.selection import AssetFilter, Selection
from node.catalog.sources import CatalogClinicalStore
from node.catalog.store import Catalog
from node.catalog.strata import Categories
from node.commands.release import app
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.clinical import REFUSED
from node.intake.schema import parse_schema
from node.intake.tables import ingest_table
from tests.node.catalog.making import NOW, TODAY, Records, asset, consent, observation, source

KEY = Pseudonyms(b"k" * 32)
P1, P2, P3 = (KEY.subject(number) for number in ("p1", "p2", "p3"))
LOINC = "http://loinc.org|8480-6"


def yes_or_no(name: str, derive: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "category", "levels": ["no", "yes"], "derive": derive, **more}


DERIVED = [
    yes_or_no("research", {"consent": "research"}),
    yes_or_no("either", {"consent": ["research", "teaching"]}),
    yes_or_no("broad", {"consent": "research", "basis": ["broad"]}),
    yes_or_no("ct", {"linked": "images", "modality": "CT"}),
    yes_or_no("images", {"linked": "images"}),
    yes_or_no("reports", {"linked": "reports"}),
    yes_or_no("pressure", {"linked": "observations", "codes": [LOINC]}),
    yes_or_no("visits", {"linked": "table", "table": "trial"}),
    yes_or_no("lesion", {"linked": "group", "roles": ["dermoscopy", "follow-up"]}),
]


@pytest.fixture
def hospital(catalog: Catalog, home: NodeHome, trial: bytes) -> NodeHome:
    """Three patients of a table: consents, images, a report, observations and two lesions."""
    asked = (
        consent(P1, "research"),
        consent(P1, "research", basis=REFUSED),
        consent(P2, "teaching", basis="broad"),
        # In force until some day within the year, by the hospital's own calendar.
        consent(P2, "research", basis="broad", ends=TODAY - timedelta(days=400)),
        consent(P3, "research", basis=REFUSED),
    )
    observed = [observation(P2, LOINC, 120.0), observation(P3, "http://loinc.org|1", 1.0)]
    records = Records({"consents": asked, "observations": observed})
    CatalogClinicalStore(catalog).replace_source(source("followup"), records, ())
    rows = [asset(1, P1, home), asset(2, P2, home, modality="MR")]
    report = asset(3, P3, home, kind="report", modality="", suffix=".json", sop_instance_uid="")
    catalog.record([*rows, report], [])
    links = (
        Link("dermoscopy", "asset", rows[1].digest),
        Link("follow-up", "observations", "followup"),
    )
    groups = [
        Group("1" * 32, "lesion", P2, links, NOW),
        # Each role is filled, but not of one lesion.
        Group("2" * 32, "lesion", P1, (Link("dermoscopy", "asset", rows[0].digest),), NOW),
        Group("3" * 32, "case", P1, (Link("follow-up", "table", "trial"),), NOW),
    ]
    Groups(catalog, home).put(groups)
    return home


def variables(*some: dict[str, Any]) -> tuple[Variable, ...]:
    return parse_dictionary({"name": "d", "variables": list(some)}, "test").variables


def plan(catalog: Catalog, home: NodeHome, *some: dict[str, Any], **more: Any) -> Plan:
    selection = more.pop("selection", Selection(table="trial"))
    return plan_release(
        catalog, home, "r", selection, today=TODAY, variables=variables(*some), **more
    )


def column(found: Plan, name: str, subjects: tuple[str, ...] = (P1, P2, P3)) -> list[str]:
    frame = pl.read_parquet(found.parts[f"tables/{found.manifest.table}.parquet"])
    levels = dict(frame.select("subject", name).iter_rows())
    return [levels[subject] for subject in subjects]


def test_consents_and_links_are_columns_of_a_release(hospital: NodeHome, catalog: Catalog) -> None:
    found = plan(catalog, hospital, *DERIVED, days=lambda subject: 380)
    assert column(found, "research") == ["yes", "no", "no"]
    assert column(found, "either") == ["yes", "yes", "no"]
    assert column(found, "broad") == ["no", "no", "no"]
    assert column(found, "ct") == ["yes", "no", "no"]
    assert column(found, "images") == ["yes", "yes", "no"]
    assert column(found, "reports") == ["no", "no", "yes"]
    assert column(found, "pressure") == ["no", "yes", "no"]
    assert column(found, "visits") == ["yes", "yes", "yes"]
    assert column(found, "lesion") == ["no", "yes", "no"]
    assert set(found.manifest.derived) == {v["name"] for v in DERIVED}
    # p2's dates were moved by as much as to be in force still.
    later = plan(catalog, hospital, *DERIVED, days=lambda subject: 420)
    assert column(later, "research") == ["yes", "yes", "no"]


def test_without_the_key_nobody_consents_by_a_period_that_depends_on_it(
    hospital: NodeHome, catalog: Catalog
) -> None:
    assert column(plan(catalog, hospital, *DERIVED), "research") == ["yes", "no", "no"]


def test_consents_and_links_are_told_of_a_release_of_images_alone(
    hospital: NodeHome, catalog: Catalog
) -> None:
    images = Selection(assets=AssetFilter(modality=("CT", "MR")))
    found = plan(catalog, hospital, *DERIVED, selection=images, image_table="pictures")
    assert found.manifest.table == "pictures"
    assert column(found, "research", (P1, P2)) == ["yes", "no"]
    # What is held counts, be it in the release or not.
    only = Selection(assets=AssetFilter(modality=("MR",)))
    found = plan(catalog, hospital, yes_or_no("trial", DERIVED[7]["derive"]), selection=only)
    assert column(found, "trial", (P2,)) == ["yes"]


def test_whoever_withdrew_is_in_no_release_whatever_its_columns_say(
    hospital: NodeHome, catalog: Catalog
) -> None:
    Consents(catalog, hospital, lambda subject: 0).withdraw([P1], NOW)
    frame = pl.read_parquet(
        plan(catalog, hospital, *DERIVED).parts["tables/trial.parquet"], columns=["subject"]
    )
    assert P1 not in frame["subject"].to_list()


def test_a_table_that_is_not_here_leaves_its_variable_out_unless_it_is_required(
    hospital: NodeHome, catalog: Catalog
) -> None:
    link = {"linked": "table", "table": "biopsies"}
    found = plan(catalog, hospital, *DERIVED, yes_or_no("biopsied", link))
    assert "biopsied" not in found.manifest.derived
    assert [one.problem for one in found.made if one.problem] == [
        "The table that it is linked to is not here."
    ]
    with pytest.raises(DataError, match="biopsied can't be derived"):
        plan(catalog, hospital, yes_or_no("biopsied", link, required=True))


def test_release_create_reads_the_hospitals_calendar_for_consents(
    hospital: NodeHome, catalog: Catalog, tmp_path: Path
) -> None:
    path = tmp_path / "d.toml"
    path.write_text(to_toml(parse_dictionary({"name": "d", "variables": DERIVED}, "test")))
    options = ["--table", "trial", "--dictionary", str(path), "--home", str(hospital.root)]
    refused = CliRunner().invoke(app, ["create", "r", *options, "--dry-run"])
    assert "pseudonym.key does not exist" in str(refused.exception)
    one = [*options, "--columns", "age,ct", "--dry-run"]
    done = CliRunner().invoke(app, ["create", "r", *one])
    assert done.exception is None, done.exception
    assert "  ct: none missing" in done.output


def test_what_is_made_of_the_same_purpose_or_images_is_kin() -> None:
    images = {
        "name": "ct.images",
        "kind": "number",
        "derive": {"imaging": "images", "modality": "CT"},
    }
    kvp = {"name": "ct.kvp", "kind": "number", "derive": {"imaging": "kvp", "modality": "CT"}}
    mr = yes_or_no("mr", {"linked": "images", "modality": "MR"})
    some = [v for v in variables(*DERIVED, images, kvp, mr) if v.name != "lesion"]
    names = [v.name for v in some]
    found = _kinship(some, names, [v.name for v in some if v.kind == "category"])
    assert found.groups == (
        ("ct", "images", "ct.images", "mr"),
        ("research", "either", "broad"),
    )
    assert set(found.same) == {("research", "broad"), ("ct", "ct.images")}
    assert set(found.shared) == {
        ("research", "either", "broad"),
        ("ct", "images"),
        ("images", "mr"),
    }


def test_who_has_a_group_is_counted_together_with_who_has_what_it_can_hold() -> None:
    """Of those with an image all but one have a lesion: two counts would tell of one."""
    some = variables(*DERIVED)
    categories = [v.name for v in some]
    found = _kinship(some, categories, categories)
    assert ("ct", "images", "reports", "pressure", "visits", "lesion") in found.groups
    for name in ("images", "reports", "pressure", "visits"):
        assert any({name, "lesion"} <= set(names) for names in found.shared)
    number = 120
    who = np.arange(number)
    for others, told in ((1, {"images"}), (20, {"images", "lesion"})):
        held = {
            "images": Categories(np.where(who < 60, 1, 0), ("no", "yes")),
            "lesion": Categories(np.where(who < 60 - others, 1, 0), ("no", "yes")),
        }
        wishes = Wishes(strata=[], minimums=Minimums(10, 10), kinship=found)
        made = declare(held, [f"{one:03}" for one in who], wishes).declaration
        assert {v.name for v in made.variables if "levels" in v.by} == told


def test_what_is_of_images_consents_or_links_can_be_of_any_table() -> None:
    kvp = {"name": "kvp", "kind": "number", "derive": {"imaging": "kvp", "modality": "CT"}}
    age = {"name": "age", "kind": "number"}
    cut = yes_or_no("high", {"where": {"variable": "kvp", "at_least": 100}})
    old = yes_or_no("old", {"where": {"variable": "age", "at_least": 65}})
    found = of_no_table(variables(DERIVED[0], DERIVED[3], kvp, age, cut, old))
    assert found == {"research", "ct", "kvp", "high"}


def test_a_link_that_began_between_releases_of_two_tables_is_told_by_neither_of_both(
    catalog: Catalog, home: NodeHome, tmp_path: Path
) -> None:
    path = tmp_path / "d.toml"
    path.write_text(to_toml(parse_dictionary({"name": "d", "variables": [DERIVED[3]]}, "test")))
    for table in ("visits", "bloods"):
        columns = [{"name": "x", "type": "number"}]
        schema = parse_schema({"table": table, "subject": "pid", "columns": columns}, "test")
        text = "pid,x\n" + "".join(f"q{one},{one}\n" for one in range(100))
        ingest_table(text.encode(), schema, KEY, catalog, home, now=NOW)
    catalog.record([asset(one, KEY.subject(f"q{one}"), home) for one in range(50)], [])

    def create(table: str) -> str:
        options = ["--table", table, "--dictionary", str(path), "--home", str(home.root)]
        done = CliRunner().invoke(app, ["create", table, *options, "--cells", "none"])
        assert done.exception is None, done.exception
        return done.output

    assert "ct: count, levels" in create("visits")
    assert "Not exact" not in create("bloods")  # nothing has changed
    catalog.record([asset(50, KEY.subject("q50"), home)], [])
    schema = parse_schema({"table": "scans", "subject": "pid", "columns": columns}, "test")
    ingest_table(text.encode(), schema, KEY, catalog, home, now=NOW)
    said = create("scans")
    assert "Not exact, nor is anything by cells of them: ct." in said
    assert "ct: nothing" in said


@pytest.mark.parametrize(
    "derive",
    [
        {"consent": []},
        {"consent": "research", "levels": ["no", "no"]},
        {"linked": "letters"},
        {"linked": "observations"},
        {"linked": "observations", "codes": ["8480-6"]},
        {"linked": "table"},
        {"linked": "group"},
        {"linked": "reports", "modality": "CT"},
        {"linked": "images", "roles": ["slide"]},
        {"linked": "table", "table": "t", "codes": [LOINC]},
        {"linked": {"consent": "research"}},
    ],
)
def test_a_link_that_says_too_little_or_too_much_is_no_derivation(derive: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"derive"):
        variables(yes_or_no("x", derive))


def test_only_a_category_with_these_levels_says_whether_something_holds() -> None:
    with pytest.raises(Exception, match="no number"):
        variables({"name": "x", "kind": "number", "derive": {"consent": "research"}})
    with pytest.raises(Exception, match="no level"):
        variables({**yes_or_no("x", {"consent": "research"}), "levels": ["0", "1"]})
