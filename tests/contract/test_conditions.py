"""Conditions as typed: a closed list of forms, and what each means."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from contract.cohorts import Cohort, mask
from contract.conditions import all_of, where
from contract.dictionary import Variable
from contract.documents import JOB_TYPE
from contract.envelope import Envelope
from contract.errors import UsageError
from contract.work import StatisticsWork
from researcher import cli
from researcher.questions import mean, question
from tests.contract.world import World

PROJECT = World().project(
    variables=(
        Variable(name="age", kind="number", minimum=0, maximum=100),
        Variable(name="stage", kind="category", levels=("I", "II a", "III")),
    )
)
COLUMNS = {
    "age": np.array([10.0, 40.0, 65.0, np.nan]),
    "stage": np.array([0, 1, 2, -1]),
}


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ("age >= 40", [0, 1, 1, 0]),
        ("age>40", [0, 0, 1, 0]),
        ("age <= 40", [1, 1, 0, 0]),
        (" age < 4e1 ", [1, 0, 0, 0]),
        ("stage = II a", [0, 1, 0, 0]),
        ("stage = I | II a", [1, 1, 0, 0]),
        ("stage == II a", [0, 1, 0, 0]),
        ("stage != I|III", [0, 1, 0, 0]),
        ("age missing", [0, 0, 0, 1]),
        ("stage known", [1, 1, 1, 0]),
    ],
)
def test_a_condition_holds_for_whom_it_says(text: str, who: list[int]) -> None:
    assert mask(where(text), COLUMNS, PROJECT).tolist() == [bool(w) for w in who]


def test_conditions_must_all_hold_and_none_is_everybody() -> None:
    assert all_of([]) is None
    assert all_of(["age > 3"]) == where("age > 3")
    both = all_of(["age > 30", "stage != III"])
    assert both is not None
    assert mask(both, COLUMNS, PROJECT).tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    "text",
    ["", "age", "age >=", "age >= x", "age >= nan", "age > 1e99", "1 = 1", "= 3"],
)
def test_what_is_no_condition_is_said_to_be_none(text: str) -> None:
    with pytest.raises(UsageError):
        where(text)


@given(st.text(max_size=40))
def test_no_text_does_anything_but_make_a_cohort_or_an_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert isinstance(where(text), Cohort)


def test_a_question_s_parts_must_fit_together() -> None:
    assert question([mean("age")], epsilon=0.5).epsilon == 0.5
    assert question([mean("age")], secure=True).lane == "exact"
    for wrong in ({"epsilon": 17.0}, {"epsilon": 0.0}, {"analysis": "No Name"}):
        with pytest.raises(UsageError):
            question([mean("age")], **wrong)  # type: ignore[arg-type]


def test_the_command_signs_cohort_lane_and_epsilon(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    world = World()
    signed: list[StatisticsWork] = []

    class Signing:
        """A consortium that signs and sends nothing."""

        def __enter__(self) -> Signing:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def sign(self, project: str, work: StatisticsWork, *_: object) -> tuple[object, bytes]:
            signed.append(work)
            job = world.job(work=work)
            return job, Envelope.seal(JOB_TYPE, job.model_dump_json().encode()).to_bytes()

    monkeypatch.setattr(cli.Consortium, "connect", lambda _home: Signing())
    options = ["statistics", "-p", "birth", "--mean", "age", "--dry-run", f"{tmp_path}/job"]
    asked = [*options, "--where", "age >= 40", "--where", "stage != I", "--epsilon", "0.25"]
    done = CliRunner().invoke(cli.app, [*asked, "--lane", "dp"])
    assert done.exit_code == 0, done.output
    assert signed[0].cohort == all_of(["age >= 40", "stage != I"])
    assert (signed[0].lane, signed[0].epsilon) == ("dp", 0.25)
    assert CliRunner().invoke(cli.app, [*options, "--where", "age ~ 3"]).exit_code != 0
