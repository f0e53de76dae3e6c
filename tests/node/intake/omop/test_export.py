"""OMOP CDM tables: what is read, what it becomes, and that nothing else of them is kept."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import DataError, UsageError
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.clinical import ABOVE_89, BIRTH_YEAR, RACE, SEX
from node.intake.omop.export import OmopSource, cdm_files
from node.intake.omop.tables import OPTIONAL, REQUIRED
from node.intake.quality import QualityReport
from node.intake.records import SourceReport, take_in
from node.intake.terminologies import OMOP
from tests.node.intake.keeping import MemoryStore

SHARED = Path(__file__).parents[4].parent / "shared" / "data"
SYNTHEA = SHARED / "omop_synthea27nj_5.4.zip"
Row = Mapping[str, Any]
Take = Callable[..., tuple[SourceReport, MemoryStore]]

PERSON = {
    "person_id": 1,
    "gender_concept_id": 8532,
    "year_of_birth": 1970,
    "month_of_birth": 5,
    "day_of_birth": 6,
    "race_concept_id": 8527,
    "person_source_value": "MRN1",
}
CONDITION = {
    "person_id": 1,
    "condition_concept_id": 201826,
    "condition_start_date": "2020-01-02",
    "condition_start_datetime": "2020-01-02 03:04:05",
    "condition_end_date": "",
}
MEASUREMENT = {
    "person_id": 1,
    "measurement_concept_id": 3004249,
    "measurement_date": "2020-01-02",
    "measurement_datetime": "",
    "value_as_number": 120.5,
    "value_as_concept_id": 0,
    "operator_concept_id": 0,
    "unit_concept_id": 8876,
    "unit_source_value": "",
    "range_low": "",
    "range_high": "",
}
START = datetime(2020, 1, 2)


def write(folder: Path, form: str, tables: Mapping[str, Sequence[Row]]) -> Path:
    """Write tables as CSV or Parquet, upper-case names in CSV as many exports have them."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, rows in tables.items():
        frame = pl.DataFrame(list(rows), infer_schema_length=None, strict=False)
        if form == "csv":
            frame.write_csv(folder / f"{name.upper()}.csv")
        else:
            frame.write_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture
def take(tmp_path: Path, home: NodeHome, pseudonyms: Pseudonyms, now: datetime) -> Take:
    store = MemoryStore()

    def run(
        form: str = "csv",
        *,
        person: Sequence[Row] = (PERSON,),
        dry_run: bool = False,
        by_person_id: bool = False,
        **tables: Sequence[Row],
    ) -> tuple[SourceReport, MemoryStore]:
        folder = write(tmp_path / "cdm", form, {"person": person, **tables})
        source = OmopSource(cdm_files(folder), pseudonyms, by_person_id)
        report = take_in(source, "s", home, store, pseudonyms, now=now, dry_run=dry_run)
        return report, store

    return run


@pytest.fixture
def who(pseudonyms: Pseudonyms) -> str:
    return pseudonyms.subject("MRN1")


@pytest.fixture
def days(pseudonyms: Pseudonyms, who: str) -> timedelta:
    return timedelta(days=pseudonyms.days(who))


def measured(take: Take, **change: Any) -> tuple[list[tuple[Any, ...]], dict[str, int]]:
    """Number, value, unit and time of one measurement, and what was found."""
    _, store = take(measurement=[MEASUREMENT | change])
    rows = [row[2:] for row in store.kept("observations") if row[1] == f"{OMOP}|3004249"]
    return rows, store.found()


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_three_tables_become_observations(take: Take, form: str, who: str, days: timedelta) -> None:
    ended = CONDITION | {"condition_end_date": "2020-02-03"}
    report, store = take(
        form,
        condition_occurrence=[CONDITION, ended],
        measurement=[MEASUREMENT],
        drug_exposure=[{"person_id": 1}],
    )
    year = float((date(1970, 5, 6) - days).year)
    status = "http://terminology.hl7.org/CodeSystem/condition-clinical"
    diabetes = f"{OMOP}|201826"
    onset = datetime(2020, 1, 2, 3, 4, 5) - days
    assert sorted(store.kept("observations"), key=repr) == sorted(
        [
            (who, SEX, None, "http://hl7.org/fhir/administrative-gender|female", "", None),
            (who, BIRTH_YEAR, year, None, "", None),
            (who, RACE, None, f"{OMOP}|8527", "", None),
            (who, diabetes, None, None, "", onset),
            (who, diabetes, None, f"{status}|active", "", onset),
            (who, diabetes, None, f"{status}|resolved", "", datetime(2020, 2, 3) - days),
            (who, f"{OMOP}|3004249", 120.5, None, "mm[Hg]", START - days),
        ],
        key=repr,
    )
    assert store.found() == {}
    assert report.left == {"other tables": 1}
    assert report.taken == {"person": 1, "condition_occurrence": 2, "measurement": 1}


def test_the_same_tables_again_change_nothing(take: Take, home: NodeHome) -> None:
    assert not take(measurement=[MEASUREMENT])[0].unchanged
    assert take(measurement=[MEASUREMENT])[0].unchanged
    assert list((home.vault / "tables").iterdir()) == []
    report, _ = take(measurement=[MEASUREMENT], by_person_id=True)
    assert not report.unchanged


def test_a_person_may_be_known_by_its_id(take: Take, pseudonyms: Pseudonyms) -> None:
    _, store = take(by_person_id=True)
    assert {row[0] for row in store.kept("observations")} == {pseudonyms.subject("1")}
    _, store = take(person=[PERSON | {"person_source_value": None}])
    assert {row[0] for row in store.kept("observations")} == {pseudonyms.subject("1")}
    assert store.found() == {"no-medical-record-number": 1}


def test_above_89_there_is_no_birth_year_and_no_date_that_tells_it(take: Take, who: str) -> None:
    old = CONDITION | {"condition_start_date": "1930-01-02"}
    _, store = take(person=[PERSON | {"year_of_birth": 1930}], condition_occurrence=[old])
    rows = store.kept("observations")
    assert (who, ABOVE_89, 1.0, None, "", None) in rows
    assert BIRTH_YEAR not in {row[1] for row in rows}
    assert store.found() == {"age-above-89": 1, "date-tells-age": 1, "no-time": 1}


def test_of_a_year_of_birth_the_earliest_day_decides_on_the_age(take: Take) -> None:
    for year, above in ((1936, True), (1937, False)):
        unknown = {"year_of_birth": year, "month_of_birth": "", "day_of_birth": ""}
        _, store = take(person=[PERSON | unknown])
        codes = {row[1] for row in store.kept("observations")}
        assert (ABOVE_89 in codes, BIRTH_YEAR in codes) == (above, not above)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"unit_concept_id": 0, "unit_source_value": "kPa"}, (120.5, None, "kPa")),
        ({"unit_concept_id": 0}, (120.5, None, "")),
        (
            {"operator_concept_id": 4171756},
            (120.5, "http://hl7.org/fhir/quantity-comparator|<", "mm[Hg]"),
        ),
        (
            {"value_as_number": "", "value_as_concept_id": 9191},
            (None, f"{OMOP}|9191", ""),
        ),
    ],
)
def test_values_of_measurements(
    take: Take, days: timedelta, change: Row, expected: tuple[Any, ...]
) -> None:
    rows, found = measured(take, **change)
    assert rows == [(*expected, START - days)]
    assert found == {}


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"unit_concept_id": 0, "unit_source_value": "Jane"}, {"unit-unknown", "no-value"}),
        ({"value_as_number": "Jane"}, {"value-mistyped", "no-value"}),
        ({"value_as_number": "1e300"}, {"value-mistyped", "no-value"}),
        ({"range_high": 100}, {"out-of-range"}),
        ({"measurement_date": "02/01/2020"}, {"date-unreadable", "no-time"}),
        ({"measurement_date": ""}, {"missing-required", "no-time"}),
        ({"measurement_date": "1807-01-01"}, {"date-implausible", "no-time"}),
        ({"measurement_date": "2090-01-01"}, {"date-implausible", "no-time"}),
        ({"measurement_concept_id": 0}, {"no-code"}),
        ({"person_id": 9}, {"unknown-patient"}),
        ({"person_id": ""}, {"no-key"}),
        ({"value_as_number": 97, "unit_concept_id": 9448}, {"age-above-89"}),
    ],
)
def test_what_is_wrong_is_counted(take: Take, change: Row, rules: set[str]) -> None:
    assert set(measured(take, **change)[1]) == rules


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"year_of_birth": ""}, {"missing-required"}),
        ({"year_of_birth": 1807}, {"date-implausible"}),
        ({"gender_concept_id": 0}, {"missing-required"}),
        ({"person_id": ""}, {"no-key"}),
    ],
)
def test_what_a_person_lacks_is_counted(take: Take, change: Row, rules: set[str]) -> None:
    _, store = take(person=[PERSON, PERSON | {"person_id": 2, "person_source_value": "x"} | change])
    assert set(store.found()) == rules


def test_a_person_twice_counts_once(take: Take) -> None:
    _, store = take(person=[PERSON, PERSON, PERSON | {"person_id": 2}])
    assert store.found() == {"duplicate": 1, "subject-twice": 1}
    assert len(store.kept("observations")) == 3


def test_columns_separators_and_versions_are_checked(take: Take, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Table person has no column gender_concept_id"):
        take(person=[{"person_id": 1}])
    with pytest.raises(DataError, match=r"another CDM version; take 5\.3 or 5\.4"):
        take(cdm_source=[{"cdm_version": "v6.0"}])
    take(cdm_source=[{"cdm_version": "v5.3.1"}])
    for name in ("PERSON.csv", "CDM_SOURCE.csv"):
        path = tmp_path / "cdm" / name
        path.write_text(path.read_text().replace(",", "\t"))
    assert [path.name for path in cdm_files(tmp_path / "cdm")] == ["CDM_SOURCE.csv", "PERSON.csv"]
    source = OmopSource(cdm_files(tmp_path / "cdm"), Pseudonyms(bytes(32)))
    report = SourceReport("s", "x", QualityReport("s"))
    from node.intake.clinical import Staging

    source.read(Staging(None), report, datetime(2026, 1, 1))
    assert report.subjects == 1
    (tmp_path / "cdm" / "person.parquet").write_bytes(b"")
    with pytest.raises(UsageError, match="twice"):
        OmopSource(cdm_files(tmp_path / "cdm"), Pseudonyms(bytes(32))).read(
            Staging(None), report, datetime(2026, 1, 1)
        )
    with pytest.raises(UsageError, match="no table called person"):
        OmopSource([], Pseudonyms(bytes(32))).read(Staging(None), report, datetime(2026, 1, 1))


def test_no_planted_identifier_is_anywhere_in_the_home_or_the_summary(
    home: NodeHome, pseudonyms: Pseudonyms, now: datetime, tmp_path: Path
) -> None:
    from node.catalog.sources import CatalogClinicalStore
    from node.catalog.store import Catalog

    texts = {
        "person": ("gender_source_value", "race_source_value", "location_id", "provider_id"),
        "condition_occurrence": ("condition_source_value", "stop_reason", "provider_id"),
        "measurement": ("measurement_source_value", "value_source_value", "unit_source_value"),
    }
    rows = {"person": PERSON, "condition_occurrence": CONDITION, "measurement": MEASUREMENT}
    planted = {
        name: [row | {column: f"CANARY {column} Jane Doe" for column in texts[name]}]
        for name, row in rows.items()
    }
    folder = write(tmp_path / "cdm", "csv", {**planted, "note": [{"note_text": "CANARY NOTE"}]})
    with Catalog.open(home) as catalog:
        source = OmopSource(cdm_files(folder), pseudonyms)
        store = CatalogClinicalStore(catalog)
        report = take_in(source, "s", home, store, pseudonyms, now=now)
        assert report.rows["observations"] == 5
        assert "CANARY" not in "\n".join(report.lines()) + repr(report.quality.to_json())
        for path in home.root.rglob("*"):
            if path.is_file():
                data = path.read_bytes().lower()
                for canary in ("canary", "jane", "mrn1", "1970-05-06"):
                    assert canary.encode() not in data, path.name


cells = st.text(max_size=6) | st.sampled_from(
    ["1", "0", "8876", "2020-01-01", "1e400", "-", "NULL"]
)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(REQUIRED)),
    st.lists(st.lists(cells, min_size=3, max_size=9), min_size=1, max_size=4),
)
def test_any_cells_are_taken_or_counted(
    tmp_path_factory: pytest.TempPathFactory, table: str, rows: list[list[str]]
) -> None:
    import csv

    from node.intake.clinical import Staging

    folder = tmp_path_factory.mktemp("cdm")
    for name in REQUIRED:
        columns = [*REQUIRED[name], *OPTIONAL[name]]
        text = io.StringIO()
        filled = [[*row, *[""] * len(columns)][: len(columns)] for row in rows]
        csv.writer(text).writerows([columns, *(filled if name == table else [])])
        if name == "person":
            csv.writer(text).writerow([PERSON.get(column, "") for column in columns])
        (folder / f"{name}.csv").write_bytes(text.getvalue().encode(errors="replace"))
    report = SourceReport("s", "x", QualityReport("s"))
    staging = Staging(None)
    source = OmopSource(cdm_files(folder), Pseudonyms(bytes(32)))
    try:
        source.read(staging, report, datetime(2026, 1, 1))
    except DataError as error:
        assert not any(len(cell) > 4 and cell in str(error) for row in rows for cell in row)


@pytest.mark.skipif(not SYNTHEA.is_file(), reason="the sample data is not here")
def test_syntheas_cdm_is_taken_in(
    home: NodeHome, pseudonyms: Pseudonyms, now: datetime, tmp_path: Path
) -> None:
    with zipfile.ZipFile(SYNTHEA) as archive:
        for name in ("PERSON", "CONDITION_OCCURRENCE", "MEASUREMENT", "CDM_SOURCE", "PROVIDER"):
            (tmp_path / f"{name}.csv").write_bytes(archive.read(f"{name}.csv"))
    people = pl.read_csv(tmp_path / "PERSON.csv", infer_schema=False)
    measurements = pl.read_csv(tmp_path / "MEASUREMENT.csv", infer_schema=False)
    store = MemoryStore()
    source = OmopSource(cdm_files(tmp_path), pseudonyms)
    report = take_in(source, "s", home, store, pseudonyms, now=now)
    assert (report.subjects, report.taken["measurement"]) == (28, 10040)
    kept = store.rows["s"]["observations"]
    assert kept["subject"].n_unique() == 28
    weights = measurements.filter(pl.col("measurement_concept_id") == "3025315")
    mine = kept.filter(pl.col("code") == f"{OMOP}|3025315")
    assert sorted(mine["number"]) == sorted(weights["value_as_number"].cast(pl.Float64))
    assert set(mine["unit"]) == {"kg"}
    for number in people["person_source_value"]:
        assert number not in repr(kept["subject"].to_list())
