"""Numbers are seen by length, groups or label; codes, settings, sizes and versions are none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.deid.figures import find_figures, find_paths, is_concept, is_day
from node.deid.identifiers import Known, Matcher, Rules


def _masked(text: str) -> str:
    signs = list(text)
    tokens = frozenset(re.findall(r"[^\W\d_]+", text.lower()))
    for start, end in find_figures(text, tokens) + find_paths(text):
        signs[start:end] = "\0" * (end - start)
    return re.sub("\0+", "*", "".join(signs))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("National ID 881 6623 20451", "National ID *"),
        ("(ACC88620415) CT HEAD", "(ACC*) CT HEAD"),
        ("QLT-8815520 follow up", "* follow up"),
        ("CT-8815520 follow up", "CT-* follow up"),
        ("prior exam 7726150 compared", "prior exam * compared"),
        ("MRN 44 31 20 7", "MRN *"),
        ("NHS No 944 275 6318", "NHS No *"),
        ("Personnummer 811228-9874", "Personnummer *"),
        ("CPF 529.982.247-25", "CPF *"),
        ("DNI 12345679Z", "DNI *"),
        ("NIE X-1234567-L", "NIE *"),
        ("AHV 756.9217.0769.85", "AHV *"),
        ("Aadhaar 2345 6789 0124", "Aadhaar *"),
        ("주민번호 550819-1234567", "주민번호 *"),
        ("СНИЛС 112-233-445 95", "СНИЛС *"),
        ("insurance no. A 123 456 781", "insurance no. *"),
        ("Medicare 1EG4-TE5-MK73", "Medicare *"),
        ("passport C01X00T47", "passport *"),
        ("S19-12346 biopsy", "* biopsy"),
        ("601 234 568", "*"),
        ("X-ray no.: XR/20/88213", "X-ray no.: *"),
        ("DOB 14.3.55", "DOB *"),
        ("IP 10.2.3.4 sent", "IP * sent"),
        ("MAC 00:1B:44:11:3A:B7", "MAC *"),
        ("4f1c2d3e-77aa-4b1e-9c3d-0123456789ab", "*"),
        (r"C:\Users\quandt\scan", "*"),
        (r"\\pacs01\export\QuandtF", "*"),
        ("/home/quandt/scan.dcm", "*"),
        ("see www.example.org/~quandt ok", "see * ok"),
        ("quandt [at] clinic.example", "*"),
    ],
)
def test_a_number_that_identifies_is_found(text: str, masked: str) -> None:
    assert _masked(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "SNOMED 39607008", "(24028007, SCT, Right)", "LOINC 24627-2, RID1301, T-04000", "C0025149",
        "FMA256135", "NCT01234567", "b 0 500 1000 2000 s/mm2", "b 100 200 300", "512 512 128",
        "12 14 16 18 20 ms", "position -123.45, 0.123456789", "1234567.25 Bq", "CX50 51.80.108.010",
        "Cassette type 9840 500 70201", "10000000 counts", "Image 12345/20000", "IM000017",
        "12345678", "GE 12.0_M5A_0846.d", "512x512x300", "10:15:30 to 10:45:30", "ratio 1:2:4",
        r"DERIVED\SECONDARY\MPR\CSA MPR\\CSAPARALLEL\M", "mg/ml and/or 5/6", "and /data kept",
        "unit dose 2000", "exam 1 of 2", "visit 12", "id band checked", "extension 15 degrees",
        "no 5 mm nodule", "BRCA1 c.1234_1236del, EGFR p.E746_A750del", "iodine 350 mgI/ml",
    ],
)  # fmt: skip
def test_a_code_a_setting_or_a_version_is_no_such_number(text: str) -> None:
    assert _masked(text) == text


@pytest.mark.parametrize("text", ["20210314", "SCAN20210314_001", "20210314101500", "2021-03-14"])
def test_a_date_is_left_to_be_moved(text: str) -> None:
    cleaned = Matcher(Known(), Rules(days=400)).clean(text)
    assert "***" not in cleaned and "20200208" in cleaned.replace("-", "")


def test_every_concept_of_snomed_has_its_check_digit() -> None:
    from pydicom.sr._concepts_dict import concepts

    codes = [code for named in concepts["SCT"].values() for code in named]
    numbers = [code for code in codes if code.isdigit()]
    assert len(numbers) > 2000
    assert sum(map(is_concept, numbers)) >= len(numbers) - 1  # one has none there
    assert sum(is_concept(str(n)) for n in range(10_000_000, 10_100_000)) < 300
    assert _masked("uvula [26140008]") == "uvula [26140008]"


def test_a_code_that_looks_like_a_day_of_another_age_stays() -> None:
    matcher = Matcher(Known(), Rules(days=400))
    assert matcher.clean("20721001") == "20721001" and matcher.clean("19041007") == "19041007"


def test_a_day_has_a_month_and_a_day_of_it() -> None:
    assert is_day("20210314") and is_day("202103141015") and not is_day("20214314")


@given(st.text(alphabet="0123456789 -./:ABxyz#\\", max_size=60))
def test_any_figures_can_be_searched(text: str) -> None:
    for start, end in find_figures(text, frozenset(["id", "no"])) + find_paths(text):
        assert 0 <= start < end <= len(text)


@pytest.mark.parametrize(
    "text", ["1 " * 4000, "12-" * 3000, "A1-" * 3000, "id " * 3000, "1" * 9000, "ab:" * 3000,
             "a" * 9000 + "[at]", "/home/" * 2000, "id 1" * 3000, "www." * 3000]
)  # fmt: skip
def test_long_monotonous_figures_are_searched_in_linear_time(text: str) -> None:
    # Were any pattern quadratic with a large factor, this would not end in a test's time.
    find_figures(text, frozenset(["id", "no"]))
    find_paths(text)
