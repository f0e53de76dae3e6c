"""Strangers are seen by the role, the relation or the verb before them; services are none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.deid.roles import find_roles
from tests.node.deid import prose


def _masked(text: str) -> str:
    signs = list(text)
    for start, end in find_roles(text, frozenset(re.findall(r"[^\W\d_]+", text.lower()))):
        signs[start:end] = "\0" * (end - start)
    return re.sub("\0+", "*", "".join(signs))


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Reported by: A. Lindqvarn, MD", "Reported by: *, MD"),
        ("Discussed with Amelia Lindqvarn (registrar)", "Discussed with * (registrar)"),
        ("RT: K. Obuyani", "RT: *"),
        ("Radiographer Kerubo Obuyani", "Radiographer *"),
        ("Sister Obuyani", "Sister *"),
        ("Mother: Wanjiru Obuyani", "Mother: *"),
        ("patient's wife Wanjiru called", "patient's wife * called"),
        ("husband (Otieno) present", "husband (*) present"),
        ("gez. Kwandt", "gez. *"),
        ("Signed electronically by Kwandt F", "Signed electronically by *"),
        ("/signed/ F. Kwandt", "/signed/ *"),
        ("Pt name Kwandt Friederike", "Pt name *"),
        ("Name: kwandt, friederike", "Name: *"),
        ("transferred from St Swithun's", "transferred from *"),
        ("Univ. of Tuskaloosa Med Ctr", "Univ. of *"),
        ("PO Box 4421, Nairobi", "*"),
        ("SW1A 2AA", "*"),
        ("Springfield, IL 62704", "*"),
        ("Hauptstr. 12, 04109 Leipzig", "*"),
        ("22 Acacia Avenue, Surbiton", "*"),
        ("审核医师：陈志强", "审核医师：*"),
        ("主治医师 刘建国", "主治医师 *"),
        ("担当:佐藤健一", "担当:*"),
        ("이영희 간호사", "* 간호사"),
        ("담당의 박철수", "담당의 *"),
        ("Врач: Иванова Ольга Петровна", "Врач: *"),
        ("врач Иванова О.П.", "врач *"),
        ("Zleca: lek. Nowacki", "Zleca: lek. *"),
        ("Demandé par le Pr Duvivier", "Demandé par le Pr *"),
        ("Dott.ssa Bellandi", "Dott.ssa *"),
        ("Clínica San Telmo", "*"),
        ("CHU de Valmont", "*"),
        ("Azienda Ospedaliera Valmonte", "*"),
        ("患者 陈大文 复查", "患者 * 复查"),
        ("依頼医 田中一郎", "依頼医 *"),
        ("Lic. Echeverri", "Lic. *"),
    ],
)
def test_a_person_or_place_is_found_by_a_role(text: str, masked: str) -> None:
    assert _masked(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "Sister Mary Joseph nodule", "derived from Frank XYZ leads",
        "Saint Bernard", "Hospital Course: stable",
        "clinica nella norma", 
        "患者 双肺纹理",
        "Son Valley cattle", "Discussed with Neurosurgery at 10:30", "Informed Oncology",
        "Referred from Emergency Department", "transferred from ICU", "Consultant Radiology",
        "Radiographer comments: none", "Mother had breast cancer", "son et lumière",
        "St. Jude valve", "L4 5TH", "T2 3D FSE", "Name: none", "name of the sequence: t1_fl2d",
        "Patient: supine", "PATIENT NAME: NONE", "seen by the team", "from Head to Foot",
        "to Left Atrium", "per Protocol", "CONSULTANT UNAVAILABLE", "报告医师：待定", "환자 의사",
    ],
)  # fmt: skip
def test_a_service_or_a_finding_is_no_person(text: str) -> None:
    assert _masked(text) == text


@pytest.mark.parametrize("name", [n for n in dir(prose) if n.isupper()])
def test_reports_that_name_nobody_stay_whole(name: str) -> None:
    for line in str(getattr(prose, name)).splitlines():
        assert _masked(line) == line


@given(st.text(max_size=80))
def test_any_text_can_be_searched(text: str) -> None:
    for start, end in find_roles(text, frozenset(["by", "patient", "st"])):
        assert 0 <= start < end <= len(text)


@pytest.mark.parametrize(
    "text", ["Aa " * 3000, "patient: " * 2000, "by A. " * 2000, "St " * 3000, "12 Aa " * 2000,
             "Ab" * 4000 + "str. 1", "医师：" * 2000, "김" * 5000, "A " * 4000]
)  # fmt: skip
def test_long_monotonous_texts_are_searched_in_linear_time(text: str) -> None:
    # Were any pattern quadratic with a large factor, this would not end in a test's time.
    find_roles(text, frozenset(re.findall(r"[^\W\d_]+", text.lower())))
