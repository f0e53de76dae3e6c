"""What an archive is asked for, and what of its answers is believed."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.errors import DataError
from node.pull.question import Question, read_numbers


def test_a_list_is_text_or_csv_with_or_without_a_heading() -> None:
    expected = ["A1", "B 2", "0003"]
    for text in (
        "A1\nB 2\n0003\n",
        "A1\r\nB 2\r\n\r\n0003",
        "Accession Number\nA1\nB 2\n0003",
        "accession_number,name\nA1,QUILLFEATHER\nB 2,x\n0003,y",
        '"AccessionNumber";"x"\n"A1";"1"\n"B 2";"2"\n"0003";"3"',
        "# made on Monday\nA1\nB 2\nA1\n0003",
        "\ufeffA1\tx\nB 2\ty\n0003\tz",
    ):
        assert read_numbers(text.encode()) == (expected, 0), text


def test_what_is_no_number_is_counted_and_not_asked_for() -> None:
    text = "A1\n*\nA?\nA\\B\n12345678901234567\nB2"
    assert read_numbers(text.encode()) == (["A1", "B2"], 4)


@pytest.mark.parametrize("data", [b"\xff\xfe\x41", b'"' + b"x" * 200_000 + b'"'])
def test_a_file_that_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(DataError):
        read_numbers(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_refused(data: bytes) -> None:
    try:
        numbers, _ = read_numbers(data)
    except DataError:
        return
    for number in numbers:
        assert Question(accession_number=number).study_keys() == {"AccessionNumber": number}


def test_keys_are_dicoms() -> None:
    question = Question(
        modality="CT",
        first_date=date(2026, 1, 1),
        last_date=date(2026, 2, 1),
        study_description="THORAX*",
        body_part="CHEST",
    )
    assert question.study_keys() == {
        "ModalitiesInStudy": "CT",
        "StudyDate": "20260101-20260201",
        "StudyDescription": "THORAX*",
    }
    assert question.series_keys() == {"Modality": "CT"}
    one_day = Question(first_date=date(2026, 1, 1), last_date=date(2026, 1, 1))
    assert one_day.study_keys() == {"StudyDate": "20260101"}
    assert Question(first_date=date(2026, 1, 1)).study_keys() == {"StudyDate": "20260101-"}
    assert Question(last_date=date(2026, 1, 1)).study_keys() == {"StudyDate": "-20260101"}


def test_an_answer_to_another_question_is_left_where_it_is() -> None:
    by_number = Question(accession_number="A1")
    assert by_number.admits_study({"AccessionNumber": ["A1 "]})
    assert not by_number.admits_study({"AccessionNumber": ["A2"]})
    assert not by_number.admits_study({})  # the archive ignored the key
    assert not Question(patient_id="7").admits_study({"PatientID": "77"})
    january = Question(first_date=date(2026, 1, 1), last_date=date(2026, 1, 31))
    assert january.admits_study({"StudyDate": "20260131"})
    assert not january.admits_study({"StudyDate": "20260201"})
    described = Question(study_description="Thorax*[1]")
    assert described.admits_study({"StudyDescription": "THORAX nativ[1]"})
    assert not described.admits_study({"StudyDescription": "THORAX nativ1"})
    assert not described.admits_study({})
    ct = Question(modality="CT", body_part="CHEST")
    assert not ct.admits_study({"ModalitiesInStudy": ["MR", "SR"]})
    assert ct.admits_study({"ModalitiesInStudy": ["MR", "CT"]})
    assert ct.admits_series({"Modality": "CT", "BodyPartExamined": "chest"})
    assert not ct.admits_series({"Modality": "CT"})
    assert not ct.admits_series({"Modality": "MR", "BodyPartExamined": "CHEST"})


@pytest.mark.parametrize(
    "criteria",
    [
        {"accession_number": "A*"},
        {"accession_number": "A\\B"},
        {"modality": "ct*"},
        {"study_description": "a\\b"},
        {"first_date": date(2026, 2, 1), "last_date": date(2026, 1, 1)},
        {"patient_name": "QUILLFEATHER"},
    ],
)
def test_criteria_are_a_closed_list(criteria: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Question.model_validate(criteria)
