"""Four hospitals' heart disease data (UCI 45) brought to one dictionary: who is ready."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from node.catalog.dictionary import parse_dictionary
from node.catalog.mapping.coverage import CoverageReport
from node.catalog.mapping.evaluation import Mapped, apply_mapping
from node.catalog.mapping.file import parse_mapping
from node.catalog.mapping.making import NodeSources
from node.catalog.observed import ObservationReader
from node.catalog.store import Catalog
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.schema import parse_schema
from node.intake.tables import ingest_table

DATA = Path(__file__).parents[4].parent / "shared" / "data" / "heart-disease"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
OTHERS = ("cp", "trestbps", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal")
HEADER = ("age", "sex", *OTHERS[:2], "chol", *OTHERS[2:], "num")
SCHEMA = {
    "table": "heart",
    "subject": "pid",
    "missing": ["", "?", "-9"],
    "rows": "one",
    "columns": [
        {"name": "age", "type": "integer", "unit": "years"},
        {"name": "sex", "type": "integer"},
        {"name": "chol", "type": "number", "unit": "mg/dL"},
        {"name": "num", "type": "integer", "minimum": 0, "maximum": 4},
        *({"name": name, "type": "identifier"} for name in OTHERS),
    ],
}
DICTIONARY = {
    "name": "heart",
    "variables": [
        {"name": "age", "kind": "number", "unit": "a", "minimum": 18, "maximum": 90},
        {"name": "sex", "kind": "category", "levels": ["female", "male"], "required": True},
        {"name": "cholesterol", "kind": "number", "unit": "mmol/L", "missing": ["0"]},
        {"name": "disease", "kind": "category", "levels": ["true", "false"], "required": True},
    ],
}
MAPPING = {
    "dictionary": "heart",
    "variables": {
        "age": {"from": "heart.age"},
        "sex": {"recode": {"from": "heart.sex"}, "levels": {"0": "female", "1": "male"}},
        "cholesterol": {
            "convert": {"from": "heart.chol"},
            "unit": "mmol/L",
            "molar_mass": 386.65,
        },
        "disease": {"compare": [{"from": "heart.num"}, ">", 0]},
    },
}
DISEASE = {
    "cleveland": (303, 139),
    "hungarian": (294, 106),
    "switzerland": (123, 115),
    "va": (200, 149),
}
"""Patients, and those with disease: the data set's own documentation (heart-disease.names)."""

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the sample data is not here")


def mapped(tmp_path: Path, center: str) -> Mapped:
    lines = (DATA / f"processed.{center}.data").read_text().split()
    rows = [f"{center}-{n},{line}" for n, line in enumerate(lines)]
    csv = "\n".join([",".join(["pid", *HEADER]), *rows]) + "\n"
    home = NodeHome(tmp_path / center).create()
    key = Pseudonyms(center.encode().ljust(32))
    with Catalog.open(home) as catalog:
        ingest_table(csv.encode(), parse_schema(SCHEMA, "test"), key, catalog, home, now=NOW)
        sources = NodeSources(catalog, home, ObservationReader(catalog))
        dictionary = parse_dictionary(DICTIONARY, "test")
        return apply_mapping(dictionary, parse_mapping(MAPPING, "test"), sources)


@pytest.mark.parametrize("center", sorted(DISEASE))
def test_each_hospital_is_covered_as_its_data_is(tmp_path: Path, center: str) -> None:
    result = mapped(tmp_path, center)
    diseased = result.frame.filter(pl.col("disease") == "true").height
    assert (result.subjects, diseased) == DISEASE[center]
    report = CoverageReport.of("heart", result)
    assert report.is_ready
    states = {c.result.name: c.state for c in report.variables}
    # Zurich and Basel wrote 0 for every cholesterol.
    wanted = "not covered" if center == "switzerland" else "covered"
    assert states["cholesterol"] == wanted


def test_cholesterol_is_in_the_dictionarys_unit(tmp_path: Path) -> None:
    values = mapped(tmp_path, "cleveland").frame["cholesterol"].drop_nulls()
    assert values.len() == 303
    mean = values.mean()
    assert isinstance(mean, float)
    assert mean == pytest.approx(246.693 / 38.665, rel=1e-4)
