"""Local training: what a step is, what a seed fixes, what FedProx pulls, weights in and out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from torch import nn
from torch.utils.data import TensorDataset

from learning import training
from learning.loading import Examples
from learning.training import Local


def _line() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, generator=generator)
    return TensorDataset(x, x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3)


def _squared(model: nn.Module, batch: Any) -> torch.Tensor:
    inputs, targets = batch
    return nn.functional.mse_loss(model(inputs), targets)


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(0.1), nn.Linear(4, 1))


def _bytes(model: nn.Module) -> bytes:
    return b"".join(value.numpy().tobytes() for value in model.state_dict().values())


BASE = Local(learning_rate=0.05, epochs=3, batch_size=16)


def test_it_learns_and_says_how_many_examples_and_steps() -> None:
    model = _model()
    first = training.train(model, _line(), _squared, BASE)
    later = training.train(model, _line(), _squared, replace(BASE, epochs=30))
    assert later.loss < 0.2 * first.loss
    assert (first.examples, first.steps) == (64, 12)


def test_few_examples_are_passed_again_until_there_are_steps_enough() -> None:
    # 64 examples are four batches of 16: whole passes, and what was asked for without a floor.
    for least, epochs, taken in ((20, 3, 20), (9, 1, 12), (9, 3, 12), (0, 1, 4)):
        local = replace(BASE, epochs=epochs, least_steps=least)
        assert training.train(_model(), _line(), _squared, local).steps == taken
    exact = replace(BASE, steps=7, least_steps=20)
    assert training.train(_model(), _line(), _squared, exact).steps == 7


def test_the_same_seed_and_round_give_the_same_bytes_and_another_round_others() -> None:
    made = []
    for local in (BASE, BASE, replace(BASE, round=1), replace(BASE, seed=1)):
        model = _model()
        training.train(model, _line(), _squared, local)
        made.append(_bytes(model))
    assert made[0] == made[1]
    assert len(set(made)) == 3


def test_all_examples_in_one_batch_are_plain_gradient_descent() -> None:
    model, by_hand = nn.Linear(3, 1), nn.Linear(3, 1)
    by_hand.load_state_dict(model.state_dict())
    training.train(model, _line(), _squared, Local(learning_rate=0.1, epochs=2))
    for _ in range(2):
        by_hand.zero_grad()
        _squared(by_hand, _line().tensors).backward()
        with torch.no_grad():
            for weight in by_hand.parameters():
                weight.sub_(0.1 * weight.grad)
    assert torch.allclose(model.weight, by_hand.weight, atol=1e-7)


def test_the_proximal_term_is_its_gradient() -> None:
    model, by_hand = nn.Linear(3, 1), nn.Linear(3, 1)
    by_hand.load_state_dict(model.state_dict())
    start = [weight.detach().clone() for weight in by_hand.parameters()]
    training.train(model, _line(), _squared, Local(learning_rate=0.1, epochs=3, proximal_mu=2.0))
    for _ in range(3):
        by_hand.zero_grad()
        away = sum(((w - s) ** 2).sum() for w, s in zip(by_hand.parameters(), start, strict=True))
        (_squared(by_hand, _line().tensors) + 2.0 / 2 * away).backward()
        with torch.no_grad():
            for weight in by_hand.parameters():
                weight.sub_(0.1 * weight.grad)
    assert torch.allclose(model.weight, by_hand.weight, atol=1e-6)


def test_a_correction_is_added_to_the_gradients() -> None:
    model = nn.Linear(3, 1, bias=False)
    nn.init.zeros_(model.weight)
    still = TensorDataset(torch.zeros(4, 3), torch.zeros(4, 1))
    correction = {"weight": torch.tensor([[1.0, 2.0, 3.0]])}
    training.train(model, still, _squared, Local(learning_rate=0.5), correction=correction)
    assert model.weight.tolist() == [[-0.5, -1.0, -1.5]]


def test_steps_count_batches_whatever_the_epochs() -> None:
    done = training.train(_model(), _line(), _squared, replace(BASE, steps=7))
    assert done.steps == 7


def test_sixteen_bits_learn_as_well_and_weights_stay_in_float32() -> None:
    model = _model()
    local = replace(BASE, mixed_precision=True, epochs=20)
    done = training.train(model, _line(), _squared, local)
    assert done.loss < 1.0
    assert all(value.dtype == torch.float32 for value in model.state_dict().values())


def test_nobody_to_train_on_changes_nothing() -> None:
    model = _model()
    before = _bytes(model)
    assert training.train(model, Examples([], str), _squared, BASE).examples == 0
    assert _bytes(model) == before


def test_training_that_diverges_is_an_error() -> None:
    with pytest.raises(ValueError, match="learning-rate"):
        training.train(nn.Linear(3, 1), _line(), _squared, Local(learning_rate=1e9, epochs=50))


@pytest.fixture
def _a_run() -> None:
    """What Flower's runtime sets up for an app's process."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0


@pytest.mark.usefixtures("_a_run")
def test_the_messages_schedule_goes_before_the_run_config() -> None:
    content = RecordDict(
        {"config": ConfigRecord({"lr": 0.01, "proximal-mu": 0.5, "server-round": 3})}
    )
    message = Message(content=content, dst_node_id=1, message_type="train")
    local = Local.of({"learning-rate": 0.1, "local-epochs": 2, "seed": 4}, message)
    assert local == Local(0.01, epochs=2, proximal_mu=0.5, seed=4, round=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning-rate": 0.0},
        {"local-epochs": 0},
        {"optimiser": "lion"},
        {"momentum": 1.0},
        {"proximal-mu": float("nan")},
    ],
)
def test_a_setting_out_of_its_range_is_named(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Local.of({"learning-rate": 0.1, **changes})


def test_weights_travel_without_counters_and_come_back() -> None:
    model, other = (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(2))
    record = training.arrays(model)
    assert "1.num_batches_tracked" not in record
    training.load(other, record)
    assert _bytes(other) == _bytes(model)


def test_weights_of_another_model_are_refused() -> None:
    record = training.arrays(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="another shape: weight"):
        training.load(nn.Linear(3, 2), record)
    with pytest.raises(ValueError, match="another model"):
        training.load(nn.Linear(2, 2), ArrayRecord({"w": torch.zeros(1)}))


def test_examples_are_read_once_as_far_as_memory_goes() -> None:
    reads: list[int] = []

    def read(item: int) -> torch.Tensor:
        reads.append(item)
        return torch.full((4,), float(item))

    kept = Examples(range(6), read, memory_bytes=4 * 16)
    assert [float(value[0]) for value in kept.several([3, 1, 3, 0])] == [3, 1, 3, 0]
    assert [float(value[0]) for value in kept] == [0, 1, 2, 3, 4, 5]
    reads.clear()
    assert len(list(kept)) == 6
    assert len(reads) == 2


def test_weights_are_pulled_to_what_is_said_and_else_to_those_that_came() -> None:
    data = TensorDataset(torch.zeros(4, 1), torch.zeros(4, 1))

    def nothing(model: nn.Module, batch: Any) -> torch.Tensor:
        return 0.0 * model(batch[0]).sum()

    local = Local(learning_rate=0.1, steps=50, proximal_mu=5.0)
    for towards, expected in (({"weight": torch.full((1, 1), 3.0)}, 3.0), (None, 1.0)):
        model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(model.weight)
        training.train(model, data, nothing, local, towards=towards)
        assert model.weight.item() == pytest.approx(expected, abs=1e-5)
