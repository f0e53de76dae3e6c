"""One round of sums: what hospitals answer is worth exactly the pooled rows' scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given, settings
from hypothesis import strategies as st

from learning import standardising

VALUE = st.one_of(st.floats(-1e4, 1e4), st.just(float("nan")))


@pytest.fixture(autouse=True)
def _a_run() -> None:
    """What Flower's runtime sets up for an app's process."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0


def replies(parts: Sequence[np.ndarray]) -> list[Message]:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
    content = RecordDict({"arrays": ArrayRecord()})
    return [
        standardising.answer(
            Message(content, dst_node_id=i + 1, message_type="train.moments"), part
        )
        for i, part in enumerate(parts)
    ]


@settings(max_examples=60)
@given(st.lists(st.lists(st.tuples(VALUE, VALUE), min_size=0, max_size=8), min_size=1, max_size=4))
def test_the_scale_is_that_of_the_pooled_rows(sites: list[list[tuple[float, float]]]) -> None:
    parts = [np.array(rows, dtype=float).reshape(len(rows), 2) for rows in sites]
    found = standardising.merged(replies(parts))
    pooled = np.concatenate(parts)
    for column in range(2):
        known = pooled[np.isfinite(pooled[:, column]), column]
        mean = known.mean() if known.size else 0.0
        assert found.means[column] == pytest.approx(mean, rel=1e-9, abs=1e-9)
        size = np.abs(known).max() if known.size else 0.0
        if known.size and known.std() > 1e-4 * size:
            assert found.deviations[column] == pytest.approx(known.std(), rel=1e-4)
        assert found.deviations[column] > 0


def test_a_feature_that_is_nowhere_or_doesnt_vary_is_left_as_it_is() -> None:
    part = np.array([[np.nan, 3.0, 1.0], [np.nan, 3.0, 2.0]])
    found = standardising.merged(replies([part, part]))
    assert found.means.tolist() == [0.0, 3.0, 1.5]
    assert found.deviations.tolist() == [1.0, 1.0, 0.5]


def test_clipping_an_answer_leaves_its_own_mean() -> None:
    part = np.array([[1.0], [3.0]])
    [reply] = replies([part])
    arrays = reply.content.array_records["arrays"]
    for name in list(arrays):
        arrays[name] = standardising.Array(arrays[name].numpy() * 0.25)
    found = standardising.merged([reply])
    assert (found.means[0], found.deviations[0]) == (2.0, 1.0)


def test_a_hospital_without_rows_answers_zeros() -> None:
    [reply] = replies([np.zeros((0, 2))])
    arrays = reply.content.array_records["arrays"]
    assert all(not arrays[name].numpy().any() for name in arrays)
    assert reply.content.metric_records["metrics"]["num-examples"] == 0
