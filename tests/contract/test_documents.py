"""What a roster, a project and a job may hold, field by field."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from contract.dictionary import Variable
from contract.documents import (
    MAX_JOB_LIFE_DAYS,
    Document,
    Job,
    Line,
    Name,
    ParameterRange,
    Project,
    RecipeGrant,
    Roster,
    Sha256,
    VariableName,
    new_nonce,
    printable,
)
from contract.errors import DocumentError, WardgateError
from contract.work import Statistic, StatisticsWork, TrainingWork
from tests.contract.world import BUNDLE, NOW, World, members

WORLD = World()
DOCUMENTS: list[Document] = [WORLD.roster(), WORLD.project(), WORLD.job()]


def changed(document: Document, **changes: Any) -> bytes:
    raw = json.loads(document.model_dump_json())
    for path, value in changes.items():
        place = raw
        *way, last = path.split("__")
        for step in way:
            place = place[int(step) if step.isdigit() else step]
        place[last] = value
    return json.dumps(raw).encode()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: type(d).__name__)
def test_a_document_comes_back_from_its_own_bytes(document: Document) -> None:
    assert type(document).read(document.model_dump_json().encode()) == document


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: type(d).__name__)
def test_an_unknown_field_is_refused_by_name(document: Document) -> None:
    with pytest.raises(DocumentError, match="malformed at: surprise"):
        type(document).read(changed(document, surprise=1))


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (WORLD.roster(), "sites__0__x"),
        (WORLD.project(), "variables__0__x"),
        (WORLD.job(), "work__x"),
    ],
    ids=["member", "variable", "work"],
)
def test_an_unknown_field_further_in_is_refused_too(document: Document, path: str) -> None:
    with pytest.raises(DocumentError, match="malformed at"):
        type(document).read(changed(document, **{path: 1}))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("field", ["issued_at", "expires_at"])
def test_a_time_without_a_zone_is_refused(document: Document, field: str) -> None:
    with pytest.raises(DocumentError, match=field):
        type(document).read(changed(document, **{field: "2026-03-01T12:00:00"}))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: type(d).__name__)
def test_a_document_ends_after_it_begins(document: Document) -> None:
    with pytest.raises(DocumentError, match="malformed at: itself"):
        type(document).read(changed(document, expires_at=document.issued_at.isoformat()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: type(d).__name__)
@given(data=st.binary(max_size=100))
def test_no_bytes_raise_anything_but_a_document_error(document: Document, data: bytes) -> None:
    with pytest.raises(DocumentError):
        type(document).read(data)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    project = changed(WORLD.project(), variables__0__minimum="@").replace(b'"@"', number.encode())
    with pytest.raises(DocumentError):
        Project.read(project)
    work = TrainingWork(bundle=BUNDLE, parameters={"rate": 0.5})
    job = WORLD.job(work=work).model_dump_json().replace("0.5", number)
    with pytest.raises(DocumentError):
        Job.read(job.encode())


# ---- names -------------------------------------------------------------------------------------

BAD_NAMES = [
    "", "Kentucky", "KENTUCKY", "a/b", "..", "../a", ".", ".a", "a.", "-a", "a-", "_a", "a b",
    "a\n",     "a\x00", "é", "a" * 65, "a\\b", "a:b", "a*", "~",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_could_be_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)
    for document, path in (
        (WORLD.roster(), "sites__0__name"),
        (WORLD.project(), "name"),
        (WORLD.job(), "researcher"),
    ):
        with pytest.raises(DocumentError):
            type(document).read(changed(document, **{path: name}))


@pytest.mark.parametrize("name", ["a", "0", "new-york", "a.b_c-d", "a" * 64, "a..b"])
def test_a_plain_name_is_a_name(name: str) -> None:
    assert TypeAdapter(Name).validate_python(name) == name


@given(st.text(max_size=70))
def test_a_name_is_always_safe_as_the_name_of_a_file(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        return
    assert name not in (".", "..")
    assert name.isascii()
    assert name == name.lower()
    assert not set(name) & set("/\\:\x00\n ")


@pytest.mark.parametrize(
    "text", ["a" * 64, "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n"]
)
def test_a_digest_is_64_lower_case_hexadecimal_digits(text: str) -> None:
    adapter = TypeAdapter(Sha256)
    if text == "a" * 64:
        assert adapter.validate_python(text) == text
    else:
        with pytest.raises(ValidationError):
            adapter.validate_python(text)


@pytest.mark.parametrize("text", ["", "1a", "a b", "a-b", "a;b", "a" * 65, "é", "a\n", ".a"])
def test_a_variable_is_an_identifier(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(VariableName).validate_python(text)


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\x00b", "a" * 501, "a\n"])
def test_a_line_is_one_line(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Line).validate_python(text)


# ---- rosters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0, -1, 5])
def test_a_threshold_is_between_one_and_the_number_of_stewards(threshold: int) -> None:
    with pytest.raises(DocumentError):
        Roster.read(changed(WORLD.roster(), threshold=threshold))


def test_a_key_has_one_role_only() -> None:
    shared = WORLD.stewards["kentucky"]
    for role in ("sites", "researchers"):
        with pytest.raises(ValidationError, match="a key occurs twice"):
            changes: dict[str, Any] = {role: members({"x": shared})}
            WORLD.roster(**changes)


@pytest.mark.parametrize("role", ["stewards", "sites", "researchers"])
def test_a_name_occurs_once_in_a_role(role: str) -> None:
    raw = json.loads(WORLD.roster().model_dump_json())
    raw[role].append(raw[role][0] | {"key": WORLD.coordinator.public})
    with pytest.raises(DocumentError):
        Roster.read(json.dumps(raw).encode())


@pytest.mark.parametrize("key", ["", "x" * 44, "é" * 44, "A" * 43 + "="])
def test_a_member_needs_a_real_key(key: str) -> None:
    data = changed(WORLD.roster(), sites__0__key=key)
    if key == "A" * 43 + "=":
        assert Roster.read(data).sites[0].key == key
        return
    with pytest.raises(WardgateError):
        Roster.read(data)


def test_a_roster_without_stewards_is_none() -> None:
    with pytest.raises(DocumentError):
        Roster.read(changed(WORLD.roster(), stewards=[]))


@pytest.mark.parametrize("version", [0, -1, 1.5, "one", None])
def test_versions_are_counted_from_one(version: object) -> None:
    for document in (WORLD.roster(), WORLD.project()):
        with pytest.raises(DocumentError):
            type(document).read(changed(document, version=version))


# ---- projects ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "category"},
        {"kind": "category", "levels": ["a", "a"]},
        {"kind": "number", "minimum": 0},
        {"kind": "number", "maximum": 0},
        {"kind": "number", "minimum": 1, "maximum": 1},
        {"kind": "number", "minimum": 2, "maximum": 1},
        {"kind": "number", "minimum": 0, "maximum": 1, "bins": 0},
        {"kind": "number", "minimum": 0, "maximum": 1, "bins": 1001},
        {"kind": "date"},
    ],
)
def test_a_variable_without_a_proper_grid_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Variable(name="x", **wrong)


@pytest.mark.parametrize(
    "changes",
    [
        {"sites": []},
        {"researchers": []},
        {"minimum_sites": 5},
        {"minimum_sites": 0},
        {"kinds": ["examination"]},
        {"variables": [{"name": "x", "kind": "number"}] * 2},
    ],
)
def test_a_project_that_does_not_hold_together_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        Project.read(changed(WORLD.project(), **changes))


# ---- jobs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nonce", ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 32 + "\n", " " * 32]
)
def test_a_nonce_is_32_lower_case_hexadecimal_digits(nonce: str) -> None:
    with pytest.raises(DocumentError, match="nonce"):
        Job.read(changed(WORLD.job(), nonce=nonce))


def test_nonces_are_new_each_time() -> None:
    assert len({new_nonce() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("extra", [timedelta(microseconds=1), timedelta(hours=23)])
def test_a_job_lives_31_days_and_not_an_hour_longer(extra: timedelta) -> None:
    longest = timedelta(days=MAX_JOB_LIFE_DAYS)
    assert WORLD.job(issued_at=NOW, expires_at=NOW + longest).expires_at == NOW + longest
    with pytest.raises(ValidationError, match="a job lives at most"):
        WORLD.job(issued_at=NOW, expires_at=NOW + longest + extra)


@pytest.mark.parametrize(
    "changes",
    [
        {"releases": {}},
        {"releases": {"Kentucky": "a" * 64}},
        {"releases": {"kentucky": "short"}},
        {"work": {"kind": "statistics", "ask": []}},
        {"work": {"kind": "sql", "ask": "select"}},
        {"work": {"kind": "training", "bundle": "x"}},
        {"work": {"kind": "training", "bundle": BUNDLE, "seed": -1}},
        {"work": {"kind": "training", "bundle": BUNDLE, "seed": 2**31}},
        {"work": {"kind": "training", "bundle": BUNDLE, "parameters": {"x": [1]}}},
        {"work": {"kind": "training", "bundle": BUNDLE, "parameters": {"x": None}}},
        {"minimum_sites": 0},
        {"project_version": 0},
    ],
)
def test_a_job_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        Job.read(changed(WORLD.job(), **changes))


def test_a_question_holds_at_most_a_thousand_statistics() -> None:
    one = Statistic(kind="count", variable="age")
    assert len(StatisticsWork(ask=(one,) * 1000).ask) == 1000
    with pytest.raises(ValidationError):
        StatisticsWork(ask=(one,) * 1001)


@given(
    st.dictionaries(
        st.sampled_from("abcde"),
        st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=10),
    )
)
def test_parameters_keep_value_and_type_from_signing_to_reading(parameters: dict[str, Any]) -> None:
    job = WORLD.job(work=TrainingWork(bundle=BUNDLE, parameters=parameters))
    read = Job.read(job.model_dump_json().encode()).work
    assert isinstance(read, TrainingWork)
    assert read.parameters == parameters
    assert {k: type(v) for k, v in read.parameters.items()} == {
        k: type(v) for k, v in parameters.items()
    }


@pytest.mark.parametrize("moment", [NOW - timedelta(hours=1), NOW + timedelta(hours=1)])
def test_validity_is_closed_at_its_beginning_and_open_at_its_end(moment: datetime) -> None:
    job = WORLD.job(issued_at=NOW, expires_at=NOW + timedelta(hours=1))
    job.check_validity(NOW)
    with pytest.raises(DocumentError):
        job.check_validity(moment)


# ---- parameter ranges --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "good", "bad"),
    [
        (
            ParameterRange(minimum=0, maximum=1),
            [0, 1, 0.5, 1.0, -0.0],
            [True, False, "1", "0.5", "", -1e-9, 1.0000001, float("nan"), float("inf"), 2],
        ),
        (ParameterRange(choices=(1, 2)), [1, 2], [True, 1.0, "1", 3, "", 0]),
        (ParameterRange(choices=(True,)), [True], [1, 1.0, "True", "true", False]),
        (ParameterRange(choices=("1", "b")), ["1", "b"], [1, "", "B", "1 ", True]),
        (ParameterRange(choices=(1.0,)), [1.0], [1, True, "1.0"]),
        (
            ParameterRange(characters="abc", max_length=3),
            ["", "a", "abc", "aaa"],
            ["abca", "d", "A", "a ", "a\n", 1, 0.5, True],
        ),
        (ParameterRange(), [], [0, 1, "", "a", True, 0.0]),
        (ParameterRange(minimum=0), [], [0, 1, 0.5]),
        (ParameterRange(maximum=0), [], [0, -1]),
        # A choice closes the range beside it.
        (ParameterRange(minimum=0, maximum=9, choices=(3,)), [3], [4, 0, 9]),
    ],
)
def test_a_range_admits_what_it_names_and_nothing_else(
    allowed: ParameterRange, good: list[Any], bad: list[Any]
) -> None:
    assert [v for v in good if not allowed.admits(v)] == []
    assert [v for v in bad if allowed.admits(v)] == []


def test_a_range_means_the_same_after_it_was_signed_and_read() -> None:
    grant = RecipeGrant(
        name="tabular",
        bundle=BUNDLE,
        metrics=("loss",),
        parameters={
            "a": ParameterRange(choices=(1, True, 1.5, "1")),
            "b": ParameterRange(minimum=-1, maximum=1e9),
        },
    )
    project = WORLD.project(recipes=(grant,))
    read = Project.read(project.model_dump_json().encode()).recipes[0]
    assert [type(c) for c in read.parameters["a"].choices] == [int, bool, float, str]
    assert read == grant


# ---- text for a terminal -----------------------------------------------------------------------


@given(st.text(), st.integers(2, 50))
def test_printable_text_is_one_bounded_line_without_control_characters(
    text: str, limit: int
) -> None:
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)
