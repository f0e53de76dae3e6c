"""A release has a dictionary's derived variables as columns, and says how they were made."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from contract.dictionary import Variable
from contract.errors import DataError, NotFound, UsageError
from node.catalog.columns import check_dictionary, load_columns
from node.catalog.deriving import _kinship, is_as_derived, rule
from node.catalog.dictionary import parse_dictionary, read_dictionary, to_toml
from node.catalog.freezing import Plan, plan_release
from node.catalog.releases import verify_release, write_release
from node.catalog.selection import Selection
from node.catalog.store import Catalog
from node.commands.release import app
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.schema import parse_schema
from node.intake.tables import ingest_table
from tests.node.catalog.mapping.making import MemorySources, map_variables

SCHEMA = parse_schema(
    {
        "table": "trial",
        "subject": "pid",
        "columns": [
            {"name": "weight", "type": "number", "unit": "kg"},
            {"name": "height", "type": "number", "unit": "m"},
            {"name": "arm", "type": "category", "levels": ["A", "B", "C"]},
            {"name": "smoker", "type": "boolean"},
            {"name": "start", "type": "date"},
            {"name": "end", "type": "date"},
        ],
    },
    "test",
)
CSV = b"""pid,weight,height,arm,smoker,start,end
p1,70,1.75,A,yes,2020-01-01,2020-01-31
p2,80,0,B,no,2020-01-01,
p3,999,1.6,C,,2020-02-01,2020-03-01
p4,-9,1.8,,yes,2020-02-10,2020-02-01
"""
WEIGHT: dict[str, Any] = {"name": "weight", "kind": "number", "unit": "kg", "missing": ["-9"]}
HEIGHT: dict[str, Any] = {"name": "height", "kind": "number", "unit": "m"}
ARM: dict[str, Any] = {"name": "arm", "kind": "category", "levels": ["A", "B", "C"]}
SMOKER: dict[str, Any] = {"name": "smoker", "kind": "category", "levels": ["true", "false"]}
BMI: dict[str, Any] = {
    "name": "bmi",
    "kind": "number",
    "unit": "kg/m2",
    "minimum": 10,
    "maximum": 80,
    "derive": {"divide": [{"variable": "weight"}, {"power": [{"variable": "height"}, 2]}]},
}
OBESE: dict[str, Any] = {
    "name": "obese",
    "kind": "category",
    "levels": ["no", "yes"],
    "derive": {"bins": {"variable": "bmi"}, "edges": [30], "levels": ["no", "yes"]},
}
TREATED: dict[str, Any] = {
    "name": "treated",
    "kind": "category",
    "levels": ["control", "drug", "unknown"],
    "derive": {
        "recode": {"variable": "arm"},
        "levels": {"A": "control"},
        "otherwise": "drug",
        "absent": "unknown",
    },
}
DAYS: dict[str, Any] = {
    "name": "days",
    "kind": "number",
    "unit": "d",
    "whole": True,
    "minimum": 0,
    "maximum": 400,
    "derive": {"days": ["start", "end"]},
}
AT_RISK: dict[str, Any] = {
    "name": "at_risk",
    "kind": "category",
    "levels": ["no", "yes"],
    "derive": {
        "where": {
            "any": [
                {"variable": "smoker", "levels": ["true"]},
                {"not": {"variable": "bmi", "below": 30}},
            ]
        }
    },
}
ALL = [WEIGHT, HEIGHT, ARM, SMOKER, BMI, OBESE, TREATED, DAYS, AT_RISK]
TODAY = date(2026, 3, 1)


@pytest.fixture
def hospital(catalog: Catalog, home: NodeHome, now: datetime) -> NodeHome:
    """Four patients."""
    ingest_table(CSV, SCHEMA, Pseudonyms(b"k" * 32), catalog, home, now=now)
    return home


def variables(*some: dict[str, Any]) -> tuple[Variable, ...]:
    if not some:
        return ()
    return parse_dictionary({"name": "d", "variables": list(some)}, "test").variables


def plan(catalog: Catalog, home: NodeHome, *some: dict[str, Any], columns: Any = None) -> Plan:
    selection = Selection(table="trial", columns=columns)
    return plan_release(catalog, home, "r", selection, today=TODAY, variables=variables(*some))


def frame_of(found: Plan) -> pl.DataFrame:
    return pl.read_parquet(found.parts["tables/trial.parquet"]).sort("height")


def test_derived_variables_are_columns_of_the_release(hospital: NodeHome, catalog: Catalog) -> None:
    found = plan(catalog, hospital, *ALL)
    frame = frame_of(found)  # by height: p2, p3, p1, p4
    assert frame["bmi"].to_list() == [None, None, 70 / 1.75**2, None]
    assert frame["obese"].to_list() == [None, None, "no", None]
    assert frame["treated"].to_list() == ["drug", "drug", "control", "unknown"]
    assert frame["days"].to_list() == [None, 29, 30, None]
    assert frame["at_risk"].to_list() == [None, None, "yes", "yes"]  # smokers, whatever their bmi
    declared = {c.name: c for c in found.manifest.columns}
    assert (declared["bmi"].type, declared["bmi"].unit) == ("number", "kg/m2")
    assert declared["days"].type == "integer"
    assert declared["treated"].levels == ("control", "drug", "unknown")
    made = {one.name: one for one in found.made}
    assert made["bmi"].lost.out_of_range == 1  # 999 kg
    assert made["bmi"].missing == 3
    assert made["days"].lost.out_of_range == 1  # it ended before it began
    assert found.manifest.derived == {n: rule(variables(*ALL), n) for n in made}


def test_what_it_is_derived_from_need_not_be_released(hospital: NodeHome, catalog: Catalog) -> None:
    found = plan(catalog, hospital, *ALL, columns=["obese", "arm"])
    assert [c.name for c in found.manifest.columns] == ["obese", "arm"]
    assert set(found.manifest.derived) == {"obese"}
    assert [one.name for one in found.made] == ["obese"]
    plain = plan(catalog, hospital, *ALL, columns=["arm"])
    assert not plain.manifest.derived
    assert plain.manifest.digest == plan(catalog, hospital, columns=["arm"]).manifest.digest


def test_the_order_of_the_hospitals_file_makes_no_other_release(
    hospital: NodeHome, catalog: Catalog, now: datetime
) -> None:
    digest = plan(catalog, hospital, *ALL).manifest.digest
    header, *lines = CSV.strip().split(b"\n")
    other = b"\n".join([header, *reversed(lines)]) + b"\n"
    ingest_table(other, SCHEMA, Pseudonyms(b"k" * 32), catalog, hospital, now=now)
    assert plan(catalog, hospital, *ALL).manifest.digest == digest


def test_what_is_not_here_is_said_and_no_error_unless_it_is_required(
    hospital: NodeHome, catalog: Catalog
) -> None:
    lacking = {"name": "age", "kind": "number"}
    older = {"name": "older", "kind": "number", "derive": {"add": [{"variable": "age"}, 1]}}
    found = plan(catalog, hospital, lacking, older, ARM, TREATED)
    assert {one.name: bool(one.problem) for one in found.made} == {"older": True, "treated": False}
    assert set(found.manifest.derived) == {"treated"}
    with pytest.raises(DataError, match="older"):
        plan(catalog, hospital, lacking, {**older, "required": True})
    with pytest.raises(DataError, match="older"):
        plan(catalog, hospital, lacking, older, columns=["older"])
    with pytest.raises(NotFound):
        plan(catalog, hospital, lacking, older, columns=["nothing"])


def test_a_column_of_another_kind_or_unit_is_not_derived_from(
    hospital: NodeHome, catalog: Catalog
) -> None:
    for wrong in (
        {"name": "weight", "kind": "number", "unit": "g"},
        {"name": "weight", "kind": "category", "levels": ["1"]},
    ):
        node = {"first_known": [{"variable": "weight"}]}
        if wrong["kind"] == "category":
            node = {"recode": {"variable": "weight"}, "levels": {"1": "1"}}
        derived = {**wrong, "name": "w", "derive": node}
        (made,) = plan(catalog, hospital, wrong, derived).made
        assert "doesn't fit the dictionary" in made.problem


def test_a_column_that_is_there_already_is_not_derived_over(
    hospital: NodeHome, catalog: Catalog
) -> None:
    derived = {**WEIGHT, "derive": {"add": [{"variable": "height"}, 1]}}
    with pytest.raises(UsageError, match="of its own"):
        plan(catalog, hospital, HEIGHT, derived)


def test_a_release_that_was_derived_otherwise_does_not_fit(
    hospital: NodeHome, catalog: Catalog, now: datetime
) -> None:
    release = write_release(catalog, hospital, plan(catalog, hospital, *ALL), now=now)
    folder, manifest = hospital.release(release.digest), release.manifest
    assert verify_release(hospital, release.digest).derived == manifest.derived
    assert check_dictionary(manifest, variables(*ALL)) == []
    found = load_columns(folder, manifest, variables(*ALL))
    assert found["treated"].tolist().count(2) == 1
    other = {**OBESE, "derive": {**OBESE["derive"], "edges": [25]}}
    changed = variables(WEIGHT, HEIGHT, BMI, other)
    (problem,) = check_dictionary(manifest, changed)
    assert "obese" in problem
    # What it is derived from counts too.
    source = variables({**WEIGHT, "missing": []}, HEIGHT, ARM, SMOKER, BMI, OBESE, TREATED, DAYS)
    assert not is_as_derived(manifest, source, "obese")
    assert is_as_derived(manifest, source, "treated")
    plain = plan(catalog, hospital, columns=["weight", "height"]).manifest
    (problem,) = check_dictionary(plain, variables(WEIGHT, HEIGHT, BMI))
    assert "release create --dictionary" in problem


def test_release_create_says_what_it_derives(hospital: NodeHome, tmp_path: Path) -> None:
    path = tmp_path / "d.toml"
    path.write_text(to_toml(parse_dictionary({"name": "d", "variables": ALL}, "test")))
    assert read_dictionary(path).variables == variables(*ALL)
    options = ["--table", "trial", "--dictionary", str(path), "--home", str(hospital.root)]
    done = CliRunner().invoke(app, ["create", "r", *options, "--dry-run"])
    assert done.exception is None, done.exception
    assert "derived variables:" in done.output
    assert "  bmi: 3 missing, 1 out of range" in done.output
    assert "  treated: none missing" in done.output
    made = CliRunner().invoke(app, ["create", "r", *options])
    assert made.exception is None, made.exception
    shown = CliRunner().invoke(app, ["show", "r", "--home", str(hospital.root)])
    assert "bmi  number in kg/m2  (derived, 3 missing)" in shown.output
    assert "height  number in m  (0 missing)" in shown.output


def test_a_mapping_makes_what_the_dictionary_does_not_derive(tmp_path: Path) -> None:
    """And one that names what the dictionary derives is refused."""
    held = MemorySources(tmp_path)
    columns = [{"name": "kg", "type": "number", "unit": "kg"}, {"name": "m", "type": "number"}]
    held.add({"table": "t", "columns": columns}, [{"subject": "0" * 32, "kg": 70, "m": 1.75}])
    expressions = {"weight": {"from": "t.kg"}, "height": {"convert": {"from": "t.m"}, "unit": "m"}}
    mapped = map_variables(held, [WEIGHT, HEIGHT, {**BMI, "required": True}], expressions)
    assert mapped.frame.columns == ["subject", "weight", "height"]
    assert set(mapped.results) == {"weight", "height"}


def test_kin_are_what_comes_from_one_source() -> None:
    derived = [v for v in variables(*ALL) if v.derive is not None]
    categories = [v["name"] for v in ALL if v["kind"] == "category"]
    found = _kinship(derived, [v["name"] for v in ALL], categories)
    assert found.derived == {v.name for v in derived}
    # All others are of none but the very same sources.
    assert set(found.shared) == {("smoker", "at_risk"), ("obese", "at_risk")}
    assert found.groups == (
        ("arm", "treated"),
        ("weight", "height", "smoker", "bmi", "obese", "at_risk"),
    )
    assert set(found.same) == {("arm", "treated"), ("bmi", "obese")}
    shares = {"intensity": "all", "modality": "CT", "minimum": 0, "maximum": 1, "bins": 2}
    of_images = variables({"name": "ct", "kind": "number", "derive": shares})
    found = _kinship(of_images, [v.name for v in of_images], [])
    assert found.groups == (("ct.mean", "ct.sd", "ct.b00", "ct.b01"),)
    assert found.same == ()
