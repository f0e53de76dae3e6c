"""What a project may grant a recipe beside numbers and fixed arrays: lists, and models of bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from contract import records as codec
from contract.documents import RecipeGrant
from contract.errors import Refused
from contract.records import Arrays, Metrics, Records
from foundation import tensors
from node.gate.policy import DisclosureSettings, Policy, TrainingSettings
from node.gate.rules import TrainingOutput
from tests.node.gate.conftest import GRANT, Hospital

LIMITS = DisclosureSettings(minimum_cohort=20, minimum_cell=10)
WIDE = GRANT.model_copy(
    update={
        "metrics": ("num-examples", "loss", "ages"),
        "metric_lengths": {"ages": 4},
        "metric_records": ("query_results",),
        "max_model_bytes": 1000,
    }
)
TREES = {"arrays": {"0": ("uint8", (0,))}}


def leaves(
    hospital: Hospital,
    content: Records,
    grant: RecipeGrant = WIDE,
    received: Any = TREES,
    kind: str = "train",
) -> Records:
    encoded = tensors.encode(content)
    found = codec.decode(encoded.message, encoded.blob)
    output = TrainingOutput(kind, found, received, grant)
    admission = hospital.gate.admit(hospital.member, hospital.training(hospital.release(200)))
    sealed = hospital.gate.answer_task(
        hospital.member, admission, "1", output, encoded.message, encoded.blob, 0.1
    )
    return codec.decode(encoded.message, sealed.tensors)


def refusal(*arguments: Any, **named: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        leaves(*arguments, **named)
    return caught.value


def trees(length: int, name: str = "0", dtype: str = "uint8") -> Records:
    return {"arrays": Arrays({name: np.ones(length, dtype)})}


def test_bytes_of_another_length_leave_up_to_what_the_project_grants(hospital: Hospital) -> None:
    found = leaves(hospital, trees(1000))["arrays"]
    assert isinstance(found, Arrays) and found.items["0"].size == 1000


@pytest.mark.parametrize(
    "content",
    [
        trees(1001),
        trees(5, name="1"),
        trees(5, dtype="int8"),
        trees(5, dtype="float32"),
        {"arrays": Arrays({"0": np.ones((5, 1), "uint8")})},
        {"arrays": Arrays({"0": np.ones(5, "uint8"), "1": np.ones(5, "uint8")})},
    ],
)
def test_no_other_array_is_taken_for_a_model_of_bytes(hospital: Hospital, content: Records) -> None:
    assert refusal(hospital, content).code == "undeclared-arrays"


def test_without_a_grant_bytes_have_the_length_they_came_with(hospital: Hospital) -> None:
    assert refusal(hospital, trees(5), GRANT).code == "undeclared-arrays"
    leaves(hospital, trees(5), GRANT, {"arrays": {"0": ("uint8", (5,))}})


def test_what_came_as_reals_does_not_leave_as_bytes(hospital: Hospital) -> None:
    reals = {"arrays": {"0": ("float32", (5,))}}
    assert refusal(hospital, trees(5), received=reals).code == "undeclared-arrays"


@pytest.mark.parametrize(
    "treatment",
    [{"clip_norm": 1.0}, {"quantise_bits": 8}],
)
def test_a_model_of_bytes_does_not_leave_where_updates_are_treated(
    hospital: Hospital, treatment: dict[str, Any]
) -> None:
    hospital.policy = Policy(
        disclosure=LIMITS, training=TrainingSettings(minimum_subjects=20, **treatment)
    )
    refused = refusal(hospital, trees(0))
    assert refused.code == "undeclared-output"
    assert "treated as the policy wants" in str(refused)


def answers(values: Any, name: str = "query_results") -> Records:
    return {name: Metrics({"ages": values})}


def test_a_granted_list_leaves_in_a_granted_record(hospital: Hospital) -> None:
    for values in ([1, 2, 3, 4], [0.5], [], 7):
        leaves(hospital, answers(values), kind="query")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (answers([1, 2, 3, 4, 5]), "undeclared-metric"),
        (answers(["Mary Smith"]), "undeclared-metric"),
        (answers([b"x"]), "undeclared-metric"),
        (answers([True]), "undeclared-metric"),
        (answers([1.0, float("nan")]), "not-finite"),
        (answers([1], name="Mary Smith"), "undeclared-output"),
        ({"query_results": Metrics({"loss": [0.5]})}, "undeclared-metric"),
        ({"query_results": Arrays({"0": np.ones(1, "uint8")})}, "undeclared-output"),
        ({**answers([1]), "metrics": Metrics({"loss": 1.0})}, "undeclared-output"),
    ],
)
def test_no_other_list_or_record_leaves(hospital: Hospital, content: Records, code: str) -> None:
    assert refusal(hospital, content, kind="query").code == code


def test_a_range_holds_for_each_number_of_a_list(hospital: Hospital) -> None:
    grant = RecipeGrant.model_validate(
        WIDE.model_dump() | {"metric_ranges": {"ages": {"minimum": 0, "maximum": 9}}}
    )
    leaves(hospital, answers([0, 9]), grant, kind="query")
    assert refusal(hospital, answers([0, 10]), grant, kind="query").code == "out-of-range"


def test_a_count_of_patients_is_no_list() -> None:
    for lengths in ({"num-examples": 3}, {"other": 3}):
        with pytest.raises(ValidationError):
            RecipeGrant.model_validate(WIDE.model_dump() | {"metric_lengths": lengths})


def test_only_where_the_project_says_that_it_counts_no_subjects_may_num_examples_be_small(
    hospital: Hospital,
) -> None:
    few: Records = {"metrics": Metrics({"loss": 0.5, "num-examples": 1})}
    assert refusal(hospital, few, GRANT, kind="evaluate").code == "small-cell"
    batches = RecipeGrant.model_validate(GRANT.model_dump() | {"num_examples": "other"})
    leaves(hospital, few, batches, kind="evaluate")
