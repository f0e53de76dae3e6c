"""Stock strategies on the one reply that a secure round gives, and what a Grid refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.server.strategy import FedXgbNnAvg
from flwr.serverapp import strategy as strategies
from flwr.serverapp.strategy import (
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedProx,
    FedYogi,
    Krum,
)

from contract.errors import DocumentError
from contract.node_ids import node_id_of
from contract.work import SecureUpdates
from coordinator.work.training import flower
from coordinator.work.training.grid import WardgateGrid
from coordinator.work.training.secure import Summing

SITES = ("alder", "birch", "cedar", "dogwood")
SUMMING = Summing(SecureUpdates(clip_norm=1.0), {}, dict.fromkeys(SITES, "key"))


def model(seed: int) -> ArrayRecord:
    chance = np.random.default_rng(seed)
    return ArrayRecord({"w": Array(chance.normal(size=(4, 3)).astype(np.float32))})


def reply(number: int, arrays: ArrayRecord, examples: int, loss: float) -> Message:
    content = RecordDict(
        {"arrays": arrays, "metrics": MetricRecord({"num-examples": examples, "loss": loss})}
    )
    flower.identify(1)
    sent = Message(RecordDict(), node_id_of("north", SITES[number]), "train")
    return flower.reply_to(sent, f"{number:06d}", content)


@pytest.mark.parametrize("kind", [FedAvg, FedProx, FedAvgM, FedAdam, FedYogi, FedAdagrad])
def test_a_strategy_arrives_at_the_same_model_from_the_mean_alone(kind: type[FedAvg]) -> None:
    examples = [10, 200, 30, 44]
    replies = [reply(i, model(i), n, 0.5 * i) for i, n in enumerate(examples)]
    total = sum(examples)
    mean = sum(n * model(i)["w"].numpy().astype(float) for i, n in enumerate(examples)) / total
    loss = sum(n * 0.5 * i for i, n in enumerate(examples)) / total
    record = ArrayRecord({"w": Array(mean.astype(np.float32))})
    found = []
    for said in (replies, [reply(1, record, total, loss)]):
        more: dict[str, Any] = {"proximal_mu": 0.1} if kind is FedProx else {}
        strategy = kind(min_train_nodes=4, min_evaluate_nodes=4, min_available_nodes=4, **more)
        strategy.current_arrays = {"w": model(9)["w"].numpy()}
        start = model(9)
        if hasattr(strategy, "server_opt"):
            strategy.current_arrays = start
        if kind in (FedAdam, FedYogi, FedAdagrad):
            strategy.current_arrays = {"w": start["w"].numpy()}
        strategy_round = strategy.aggregate_train(1, said)
        found.append(strategy_round)
    (whole, its), (one, ones) = found
    assert np.allclose(whole["w"].numpy(), one["w"].numpy(), atol=2e-5)
    assert its["loss"] == pytest.approx(ones["loss"])


DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "reference" / "training.md"


def documented() -> dict[str, str]:
    """Return by strategy what the reference says of secure sums."""
    found: dict[str, str] = {}
    for line in DOCUMENT.read_text().splitlines():
        if (cells := line.split("|"))[1:] and cells[2].strip() in ("yes", "no"):
            found |= dict.fromkeys(re.findall(r"`([A-Za-z.]+)`", cells[1]), cells[2].strip())
    return found


@pytest.mark.parametrize("name", sorted(set(strategies.__all__) - {"Result", "Strategy"}))
def test_a_strategy_that_needs_single_updates_refuses_a_secure_job_in_one_sentence(
    name: str,
) -> None:
    kind = getattr(strategies, name, FedAvg)
    if not isinstance(kind, type):
        return
    single = flower.needs_single_updates(object.__new__(kind))
    said = re.sub(r"ServerSide(Fixed|Adaptive)", "ServerSide...", name)
    assert documented()[said] == ("no" if single else "yes")
    if not single:
        return
    observed = flower.Observed()
    observed.single_updates = single
    with pytest.raises(DocumentError, match=f"{name}.*hides") as refused:
        grid(observed).send_and_receive(messages())
    assert str(refused.value).count(". ") == 1


def test_strategies_of_both_kinds_and_those_around_them_are_known() -> None:
    class Own(Krum):  # type: ignore[misc]
        pass

    class Around:
        strategy = Own()

    for one in (Own(), Around(), FedXgbNnAvg()):
        assert flower.needs_single_updates(one).endswith("which secure aggregation hides.")
    assert flower.needs_single_updates(FedAvg()) == ""


def grid(observed: flower.Observed) -> WardgateGrid:
    """Return a Grid whose daemon is never asked: what is refused is refused before."""
    return WardgateGrid(
        None,  # type: ignore[arg-type]
        job="ab" * 32,
        run=flower.identify(1),
        sites=SITES,
        consortium="north",
        minimum_sites=2,
        observed=observed,
        summing=SUMMING,
    )


def messages(kind: str = "train", *contents: RecordDict) -> list[Message]:
    flower.identify(1)
    given = contents or (RecordDict({"arrays": model(1)}),) * len(SITES)
    return [
        Message(content, node_id_of("north", site), kind)
        for site, content in zip(SITES, given, strict=False)
    ]


def test_a_secure_job_refuses_what_it_cannot_sum_each_with_a_sentence() -> None:
    observed = flower.Observed()
    observed.single_updates = flower.needs_single_updates(Krum())
    with pytest.raises(DocumentError, match="Krum compares"):
        grid(observed).send_and_receive(messages())
    observed = flower.Observed()
    observed.weights = frozenset({"patients"})
    with pytest.raises(DocumentError, match="num-examples"):
        grid(observed).send_and_receive(messages())
    plain = grid(flower.Observed())
    with pytest.raises(DocumentError, match="training and evaluation only"):
        plain.send_and_receive(messages("query"))
    with pytest.raises(DocumentError, match="send_and_receive"):
        plain.push_messages(messages())
    several = [RecordDict({"config": ConfigRecord({"rate": rate})}) for rate in (0.1, 0.2)]
    with pytest.raises(DocumentError, match="told the same"):
        plain.send_and_receive(messages("train", *several))
    assert plain.send_and_receive([]) == []


def test_what_the_apps_process_is_told_of_the_sums_is_read_again() -> None:
    assert Summing.told(SUMMING.to_tell()) == SUMMING
