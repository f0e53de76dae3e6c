"""The quality report: rules of a closed list and counts, nothing of a patient."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path

import pytest

from contract.errors import DataError, NotFound, UsageError, WardgateError
from node.catalog.sources import CatalogClinicalStore
from node.catalog.store import Catalog
from node.commands import tables
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.conversion import Unfit
from node.intake.quality import RULES, Finding, QualityReport
from node.intake.schema import parse_schema
from node.intake.tables import ingest_table

SCHEMA = """
table = "visits"
subject = "pid"
rows = "many"
time = "day"
[[columns]]
name = "day"
type = "date"
[[columns]]
name = "age"
type = "integer"
unit = "years"
minimum = 0
maximum = 120
required = true
[[columns]]
name = "sbp"
type = "number"
unit = "mmHg"
code = "8480-6"
terminology = "http://loinc.org"
[[columns]]
name = "sex"
type = "category"
levels = [{ level = "F", code = "248152002", terminology = "http://snomed.info/sct" }, "M"]
[[columns]]
name = "note"
type = "text"
"""
GOOD = b"pid,day,age,sbp,sex,note\nA1,2020-01-02,97,120,F,Jane Doe\nA1,1920-01-02,50,,M,\n"
BAD = GOOD + b"A2,2020-01-02,300,x,Z,\nA3,2020-01-02,,1,F,\n,2020-01-02,5,1,F,\n"


def test_rules_are_a_closed_list_and_counted_by_place() -> None:
    report = QualityReport("s")
    report.add("out-of-range", "t.age", 2)
    report.add("out-of-range", "t.age")
    report.add("no-time", "t", 0)
    assert report.findings() == (Finding("out-of-range", "t.age", 3),)
    assert report.count("out-of-range") == 3
    with pytest.raises(WardgateError, match="not a rule"):
        report.add("jane-doe", "t.age")
    written = json.loads(report.to_bytes())
    assert written["findings"] == [
        {"rule": "out-of-range", "meaning": RULES["out-of-range"], "where": "t.age", "count": 3}
    ]
    assert max(map(len, report.lines())) <= 80
    assert QualityReport("s").lines() == ["Quality: nothing found."]


def test_all_that_is_wrong_is_counted_before_a_table_is_refused(
    home: NodeHome, catalog: Catalog, pseudonyms: Pseudonyms, now: datetime, tmp_path: Path
) -> None:
    (tmp_path / "s.toml").write_text(SCHEMA)
    (tmp_path / "t.csv").write_bytes(BAD)
    export = tmp_path / "quality.json"
    with pytest.raises(Unfit, match="row 6, column pid: the subject is missing"):
        tables.take_table(
            home, catalog, pseudonyms, [tmp_path / "t.csv"], tmp_path / "s.toml", quality=export
        )
    found = {
        (f["rule"], f["where"]): f["count"] for f in json.loads(export.read_text())["findings"]
    }
    assert found == {
        ("age-above-89", "visits.age"): 1,
        ("date-tells-age", "visits.day"): 1,
        ("missing-required", "visits.age"): 1,
        ("no-key", "visits.subject"): 1,
        ("out-of-range", "visits.age"): 1,
        ("unknown-level", "visits.sex"): 1,
        ("value-mistyped", "visits.sbp"): 1,
    }
    assert catalog.list_tables() == []


def test_a_table_of_many_rows_makes_observations_and_findings_too(
    home: NodeHome, catalog: Catalog, pseudonyms: Pseudonyms, now: datetime, tmp_path: Path
) -> None:
    (tmp_path / "s.toml").write_text(SCHEMA)
    (tmp_path / "t.csv").write_bytes(GOOD)
    given = ([tmp_path / "t.csv"], tmp_path / "s.toml")
    dry = tables.take_table(home, catalog, pseudonyms, *given, dry_run=True)
    assert catalog.list_tables() == []
    lines = tables.take_table(home, catalog, pseudonyms, *given)
    assert lines == dry
    assert lines[0] == "Table visits: 2 rows of 1 subjects."
    assert "Observations: 5." in lines
    store = CatalogClinicalStore(catalog)
    assert [(f.rule, f.where, f.count) for f in store.findings()] == [
        ("age-above-89", "visits.age", 1),
        ("date-tells-age", "visits.day", 1),
    ]
    again = tables.take_table(home, catalog, pseudonyms, *given)
    assert again[0].endswith("(taken in before; nothing changed).")


def test_observations_of_a_table_read_back_with_their_codes(
    home: NodeHome, catalog: Catalog, pseudonyms: Pseudonyms, now: datetime
) -> None:
    import tomllib

    from node.catalog.observed import ObservationReader

    schema = parse_schema(tomllib.loads(SCHEMA), "test")
    store = CatalogClinicalStore(catalog)
    ingest_table(GOOD, schema, pseudonyms, catalog, home, now=now, store=store)
    codes = ["http://loinc.org|8480-6", "|visits.age", "|visits.sex", "|nothing"]
    rows = [row for b in ObservationReader(catalog).observations(codes) for row in b.rows()]
    who = pseudonyms.subject("A1")
    day = date.fromordinal(date(2020, 1, 2).toordinal() - pseudonyms.days(who))
    time = datetime(day.year, day.month, day.day)
    assert sorted(rows, key=repr) == sorted(
        [
            (who, "http://loinc.org|8480-6", 120.0, None, "mm[Hg]", time),
            (who, "|visits.age", 90.0, None, "a", time),
            (who, "|visits.age", 50.0, None, "a", None),
            (who, "|visits.sex", None, "http://snomed.info/sct|248152002", "", time),
            (who, "|visits.sex", None, "|M", "", None),
        ],
        key=repr,
    )


def test_one_row_for_each_subject_is_held_to(
    home: NodeHome, catalog: Catalog, pseudonyms: Pseudonyms, now: datetime
) -> None:
    columns = [{"name": "n", "type": "number"}]
    values = {"table": "t", "subject": "p", "rows": "one", "columns": columns}
    schema = parse_schema(values, "test")
    with pytest.raises(DataError, match="1 rows are of a subject that has one already"):
        ingest_table(b"p,n\na,1\na,2\n", schema, pseudonyms, catalog, home, now=now)
    assert list((home.vault / "tables").glob("*")) == []


def test_paths_that_do_not_fit_are_refused_before_anything_is_read(
    home: NodeHome, catalog: Catalog, pseudonyms: Pseudonyms, tmp_path: Path
) -> None:
    (tmp_path / "s.toml").write_text(SCHEMA)
    schema = tmp_path / "s.toml"
    with pytest.raises(UsageError):
        tables.take_table(home, catalog, pseudonyms, [tmp_path], schema)
    with pytest.raises(NotFound):
        tables.take_table(home, catalog, pseudonyms, [tmp_path / "none.csv"], schema)
    (tmp_path / "t.csv").write_bytes(GOOD)
    with pytest.raises(NotFound, match="folder of"):
        tables.take_table(
            home,
            catalog,
            pseudonyms,
            [tmp_path / "t.csv"],
            schema,
            quality=tmp_path / "no" / "q.json",
        )
    with pytest.raises(UsageError, match="one folder"):
        tables.take_fhir(home, catalog, pseudonyms, [tmp_path, tmp_path])
    with pytest.raises(UsageError, match="name"):
        tables.take_omop(home, catalog, pseudonyms, [tmp_path], source="Jane Doe")
