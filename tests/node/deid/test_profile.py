"""The table of the standard, and the profiles made of it."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary

from contract.errors import ConfigurationError
from foundation.defaults import CONFIGS
from node.deid import dummies
from node.deid.dates import shift_date, shift_datetime
from node.deid.profile import BUILT_IN, Action, Options, Profile, ProfileSettings, load_profile
from node.deid.table import OPTIONS, e1_1


def test_the_table_has_the_rows_of_the_edition() -> None:
    table = e1_1()
    assert len(table.rows) == 657
    assert Counter(row.basic for row in table.rows) == {
        "X": 417,
        "D": 93,
        "U": 55,
        "Z": 42,
        "X/D": 23,
        "X/Z": 11,
        "X/Z/D": 8,
        "Z/D": 6,
        "X/Z/U*": 2,
    }
    assert {option for row in table.rows for option in row.options} <= set(OPTIONS)
    assert sum("retain_longitudinal_modified_dates" in row.options for row in table.rows) == 169


@pytest.mark.parametrize(
    ("tag", "action"),
    [
        (0x00100010, Action.ZERO),  # Patient's Name
        (0x00100020, Action.DUMMY),  # Patient ID, Z/D
        (0x00100040, Action.ZERO),  # Patient's Sex
        (0x00080080, Action.DUMMY),  # Institution Name, X/Z/D
        (0x00080018, Action.UID),
        (0x00081140, Action.UID),  # Referenced Image Sequence, X/Z/U*
        (0x00081110, Action.REMOVE),  # Referenced Study Sequence, X/Z, decided
        (0x00401001, Action.REMOVE),  # Requested Procedure ID
        (0x00080070, Action.KEEP),  # Manufacturer is not in the table
        (0x50000010, Action.REMOVE),  # curves, whatever the profile
        (0x60023000, Action.REMOVE),  # overlay data
        (0x60020010, Action.REMOVE),  # and what describes it
        (0x00091001, Action.REMOVE),  # private
        (0x00080000, Action.REMOVE),  # group length
        (0x00184567, Action.REMOVE),  # neither in the table nor in the dictionary
        (0x00209158, Action.REMOVE),  # Frame Comments
        (0x00180050, Action.KEEP),  # Slice Thickness
    ],
)
def test_the_basic_profile_says(tag: int, action: Action) -> None:
    assert load_profile("basic").action(tag, "") is action


def test_every_attribute_of_the_dictionary_has_an_action() -> None:
    for name in BUILT_IN:
        profile = load_profile(name)
        for tag in DicomDictionary:
            assert isinstance(profile.action(tag, ""), Action)


def test_every_sequence_that_needs_a_dummy_has_one() -> None:
    profile = load_profile("basic")
    needed = {
        tag
        for tag, entry in DicomDictionary.items()
        if entry[0] == "SQ" and profile.action(tag, "SQ") is Action.DUMMY
    }
    assert needed == dummies.SEQUENCES
    for tag in needed:
        value = dummies.value(tag, "SQ")
        assert isinstance(value, list)
        assert len(value) == 1


def test_modified_dates_move_dates_and_keep_times() -> None:
    profile = load_profile("longitudinal")
    assert profile.action(0x00080020, "DA") is Action.CLEAN  # Study Date
    assert profile.action(0x0008002A, "DT") is Action.CLEAN  # Acquisition DateTime
    assert profile.action(0x00080030, "TM") is Action.KEEP  # Study Time
    assert profile.action(0x00100030, "DA") is Action.ZERO  # Patient's Birth Date has no option
    assert [code for code, _ in profile.methods] == ["113100", "113107"]


def test_options_keep_what_they_say() -> None:
    characteristics = Profile(ProfileSettings(options=Options(patient_characteristics=True)))
    assert characteristics.action(0x00100040, "CS") is Action.KEEP
    assert characteristics.action(0x00102110, "LO") is Action.CLEAN  # Allergies
    device = Profile(ProfileSettings(options=Options(device_identity=True)))
    assert device.action(0x00181000, "LO") is Action.KEEP
    institution = Profile(ProfileSettings(options=Options(institution_identity=True)))
    assert institution.action(0x00080080, "LO") is Action.KEEP


def test_every_profile_in_configs_loads() -> None:
    files = sorted((CONFIGS / "deid").glob("*.toml"))
    assert {file.stem for file in files} == set(BUILT_IN)
    for file in files:
        assert load_profile(str(file)).settings == load_profile(file.stem).settings
        assert load_profile(file.stem).settings.name == file.stem
    assert load_profile("basic").settings == ProfileSettings()


def test_every_setting_is_in_the_documented_files() -> None:
    for name in BUILT_IN:
        text = (CONFIGS / "deid" / f"{name}.toml").read_text()
        for key in (*Options.model_fields, *ProfileSettings.model_fields):
            assert key in text


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('[options]\ndate = "modified"\n')
    with pytest.raises(ConfigurationError, match=r"unknown key options\.'date'.*'dates'"):
        load_profile(str(path))
    with pytest.raises(ConfigurationError, match="no profile 'other'"):
        load_profile("other")


@given(st.dates(), st.integers(1, 365))
def test_shifting_keeps_intervals(day: date, days: int) -> None:
    moved = shift_date(f"{day.year:04}{day.month:02}{day.day:02}", days)
    if moved is None:
        assert day - date.min < timedelta(days=days)
    else:
        again = date(int(moved[:4]), int(moved[4:6]), int(moved[6:]))
        assert day - again == timedelta(days=days)


def test_what_is_not_a_date_is_not_kept() -> None:
    assert shift_date("20200230", 1) is None
    assert shift_date("Smith", 1) is None
    assert shift_date("2020.03.01", 1) == "20200229"
    assert shift_datetime("20200301101112.123456+0100", 1) == "20200229101112.123456+0100"
    assert shift_datetime("2020", 1) is None
    assert shift_datetime("20200301 Smith", 1) is None
