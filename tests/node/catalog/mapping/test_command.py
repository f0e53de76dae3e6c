"""``mapping check`` and ``mapping apply`` on a node that holds a table and observations."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from contract.documents import PROJECT_TYPE
from contract.errors import ConfigurationError, DataError, NotFound, UsageError
from node.catalog.asked import Asked, ConsortiumRow
from node.catalog.releases import create_release
from node.catalog.selection import Selection
from node.catalog.sources import CatalogClinicalStore
from node.catalog.store import Catalog
from node.commands.mapping import app
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.fhir.export import FhirSource, export_files
from node.intake.records import take_in
from node.intake.schema import parse_schema
from node.intake.tables import ingest_table
from tests.contract.world import World
from tests.node.homes import new_home
from tests.node.intake.fhir.making import condition, observation, patient, quantity, write_export

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEY = Pseudonyms(bytes(range(32)))
DICTIONARY = """
name = "bp"
table = "bp"
[[variables]]
name = "age"
kind = "number"
unit = "a"
whole = true
minimum = 18
maximum = 120
required = true
[[variables]]
name = "sex"
kind = "category"
levels = ["female", "male"]
[variables.codes]
female = { code = "female", terminology = "http://hl7.org/fhir/administrative-gender" }
male = { code = "male", terminology = "http://hl7.org/fhir/administrative-gender" }
[[variables]]
name = "sbp"
kind = "number"
unit = "mm[Hg]"
required = true
[[variables]]
name = "arm"
kind = "category"
levels = ["drug", "placebo"]
[[variables]]
name = "diabetes"
kind = "category"
levels = ["true", "false"]
"""
MAPPING = """
dictionary = "bp"
subjects = ["trial"]
[variables]
age = { completed_years = [{ from = "trial.born" }, { from = "trial.visit" }] }
sex = { observation = "http://loinc.org|46098-0", take = "last", value = "code" }
arm = { recode = { from = "trial.arm" }, levels = { A = "drug" } }
diabetes = { observation = "http://snomed.info/sct|44054006", take = "any" }
[variables.sbp]
observation = "http://loinc.org|8480-6"
take = "last"
unit = "mm[Hg]"
within = { of = { from = "trial.visit" }, from_days = -30, to_days = 0 }
"""
TRIAL = {
    "table": "trial",
    "subject": "pid",
    "columns": [
        {"name": "born", "type": "date"},
        {"name": "visit", "type": "date"},
        {"name": "arm", "type": "category", "levels": ["A", "B"]},
    ],
}
ROWS = (
    b"pid,born,visit,arm\n"
    b"MRN1,1970-05-06,2020-03-05,A\nMRN2,1990-01-01,2020-03-05,B\nMRN3,2010-01-01,2020-03-05,\n"
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[NodeHome]:
    """A node that holds a trial's table and an export of two of its patients."""
    made = new_home(tmp_path / "node")
    sbp = observation(valueQuantity=quantity(18, "kPa"))
    late = observation(
        valueQuantity=quantity(90),
        effectiveDateTime="2020-05-01",
        subject={"reference": "Patient/2"},
    )
    export = write_export(
        tmp_path / "e", patient(), patient("2", gender="male"), sbp, late, condition()
    )
    with Catalog.open(made) as catalog:
        ingest_table(ROWS, parse_schema(TRIAL, "test"), KEY, catalog, made, now=NOW)
        store = CatalogClinicalStore(catalog)
        take_in(FhirSource(export_files(export), KEY), "fhir", made, store, KEY, now=NOW)
    (tmp_path / "d.toml").write_text(DICTIONARY)
    (tmp_path / "m.toml").write_text(MAPPING)
    yield made


def call(home: NodeHome, command: str, *options: str) -> Result:
    paths = [str(home.root.parent / "d.toml"), str(home.root.parent / "m.toml")]
    return CliRunner().invoke(app, [command, *paths, "--home", str(home.root), *options])


def change(home: NodeHome, file: str, old: str, new: str) -> None:
    path = home.root.parent / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def checked(home: NodeHome, *options: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(call(home, "check", "--json", *options).stdout)
    return report


def test_check_says_by_variable_what_is_covered(home: NodeHome) -> None:
    result = call(home, "check")
    assert result.exit_code == 0, result.exception
    assert "ready: every required variable is covered" in result.output
    report = checked(home)
    assert (report["ready"], report["subjects"]) == (True, 3)
    states = {v["variable"]: (v["state"], v["present"]) for v in report["variables"]}
    assert states == {
        "age": ("incomplete", 2),
        "sex": ("covered", 2),
        "sbp": ("covered", 1),
        "arm": ("incomplete", 1),
        "diabetes": ("covered", 3),
    }
    found = {v["variable"]: v for v in report["variables"]}
    assert found["age"]["out_of_range"] == 1
    assert found["arm"]["unmapped_levels"] == {"B": 1}
    assert found["sbp"]["missing_share"] == pytest.approx(2 / 3, abs=1e-3)


def test_a_required_variable_that_is_not_covered_ends_the_check_with_an_error(
    home: NodeHome,
) -> None:
    change(home, "m.toml", "http://loinc.org|8480-6", "http://loinc.org|8462-4")
    result = call(home, "check")
    assert isinstance(result.exception, DataError)
    assert str(result.exception) == "Not ready: 1 of 2 required variables are not covered: sbp."
    report = json.loads(call(home, "check", "--json").stdout)
    assert report["ready"] is False
    assert isinstance(call(home, "apply").exception, DataError)
    assert call(home, "apply", "--incomplete").exit_code == 0


def test_too_many_missing_values_are_no_coverage(home: NodeHome) -> None:
    assert checked(home, "--max-missing", "0.7")["ready"] is True
    assert checked(home, "--max-missing", "0.5")["ready"] is False


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"mm[Hg]"\nrequired', '"kg"\nrequired', "unit-mismatch"),
        ('kind = "number"\nunit = "mm[Hg]"', 'kind = "category"\nlevels = ["x"]', "type-mismatch"),
    ],
)
def test_a_unit_or_type_that_does_not_fit_is_a_problem(
    home: NodeHome, old: str, new: str, problem: str
) -> None:
    change(home, "d.toml", old, new)
    found = {v["variable"]: v for v in checked(home)["variables"]}
    assert (found["sbp"]["problem"], found["sbp"]["state"]) == (problem, "not covered")


def test_what_may_be_shown_has_no_count(home: NodeHome) -> None:
    report = checked(home, "--coarse")
    assert "subjects" not in report
    for variable in report["variables"]:
        assert set(variable) == {
            *("variable", "required", "state", "problem", "missing_share"),
            *("has_unmapped_levels", "has_values_out_of_range"),
        }
        assert variable["missing_share"] * 20 == pytest.approx(
            round(variable["missing_share"] * 20)
        )
    shown = call(home, "check", "--coarse").output
    assert "subjects" not in shown


def test_apply_makes_a_table_that_can_be_released(home: NodeHome) -> None:
    assert call(home, "apply", "--dry-run").exit_code == 0
    with Catalog.open(home) as catalog:
        assert catalog.get_table("bp") is None
    result = call(home, "apply")
    assert result.exit_code == 0, result.exception
    assert result.output.splitlines()[-1] == "Table bp: 3 subjects, 5 variables."
    assert "nothing changed" in call(home, "apply").output
    with Catalog.open(home) as catalog:
        row = catalog.get_table("bp")
        assert row is not None
        frame = pl.read_parquet(home.vault / "tables" / f"{row.digest}.parquet")
        first = frame.filter(pl.col("subject") == KEY.subject("MRN1")).rows()[0][1:]
        assert first == (49, "female", pytest.approx(135.011, abs=1e-2), "drug", "true")
        assert frame["subject"].is_sorted()
        release = create_release(catalog, home, "first", Selection(table="bp"), now=NOW)
        assert [c.name for c in release.manifest.columns] == [
            "age",
            "sex",
            "sbp",
            "arm",
            "diabetes",
        ]
        findings = CatalogClinicalStore(catalog).findings()
        mapped = {(f.rule, f.where, f.count) for f in findings if f.source == "mapping bp"}
    assert mapped == {("out-of-range", "bp.age", 1), ("unmapped-level", "bp.arm", 1)}


def test_a_mapping_that_was_changed_replaces_its_table_and_no_other(home: NodeHome) -> None:
    call(home, "apply")
    with Catalog.open(home) as catalog:
        before = {row.name: row.digest for row in catalog.list_tables()}
    change(home, "m.toml", 'A = "drug"', 'A = "drug", B = "placebo"')
    assert call(home, "apply").exit_code == 0
    with Catalog.open(home) as catalog:
        after = {row.name: row.digest for row in catalog.list_tables()}
    assert after["trial"] == before["trial"]
    assert after["bp"] != before["bp"]
    names = {path.name for path in (home.vault / "tables").iterdir()}
    assert names == {f"{digest}.parquet" for digest in after.values()}
    change(home, "m.toml", 'dictionary = "bp"', 'dictionary = "bp"\ntable = "trial"')
    assert isinstance(call(home, "apply").exception, UsageError)
    change(home, "m.toml", 'from = "trial.', 'from = "other.')
    change(home, "m.toml", 'subjects = ["trial"]', "")
    refused = call(home, "apply", "--incomplete").exception
    assert isinstance(refused, UsageError)
    assert "was taken in, not mapped" in str(refused)


def test_files_that_do_not_belong_together_are_refused(home: NodeHome) -> None:
    change(home, "d.toml", 'name = "bp"', 'name = "other"')
    assert "is one to bp, not to other" in str(call(home, "check").exception)
    change(home, "d.toml", 'name = "other"', 'name = "bp"')
    change(home, "d.toml", 'name = "age"', 'name = "years"')
    assert "has no variable age" in str(call(home, "check").exception)
    change(home, "m.toml", "completed_years", "complete_years")
    assert isinstance(call(home, "check").exception, ConfigurationError)
    (home.root.parent / "m.toml").unlink()
    assert isinstance(call(home, "check").exception, NotFound)


def test_a_dictionary_is_printed_as_toml(home: NodeHome) -> None:
    path = str(home.root.parent / "d.toml")
    printed = CliRunner().invoke(app, ["dictionary", path, "--home", str(home.root)])
    (home.root.parent / "again.toml").write_text(printed.stdout)
    again = str(home.root.parent / "again.toml")
    assert CliRunner().invoke(app, ["dictionary", again]).stdout == printed.stdout


def test_a_projects_own_dictionary_is_mapped_to(home: NodeHome) -> None:
    variables = tomllib.loads(DICTIONARY)["variables"]
    project = World().project(name="bp", table="bp", variables=variables)
    envelope = project.seal(PROJECT_TYPE)
    with Catalog.open(home) as catalog:
        asked = Asked(catalog.engine)
        asked.put_consortium(ConsortiumRow("preterm", "kentucky", "x:1", "key", None), NOW)
        asked.put_project("preterm", "bp", 1, envelope.to_bytes())
    mapping = str(home.root.parent / "m.toml")
    result = CliRunner().invoke(app, ["check", "bp", mapping, "--home", str(home.root)])
    assert result.exit_code == 0, result.exception
    printed = CliRunner().invoke(app, ["dictionary", "bp", "--home", str(home.root)])
    assert tomllib.loads(printed.stdout)["title"] == project.title
    unknown = CliRunner().invoke(
        app, ["dictionary", "bp", "--consortium", "other", "--home", str(home.root)]
    )
    assert isinstance(unknown.exception, NotFound)
