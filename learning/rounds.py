"""A ServerApp's rounds: the strategy that the run config names, replies folded in by node.

Nodes are sampled at random and answer when they can, and a float's sum depends on the order; in
order, a second run gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedProx, FedYogi, Strategy
from flwr.serverapp.strategy.result import Result
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

from learning.strategies.quasi_newton import QuasiNewton
from learning.strategies.schedules import Scheduled, cosine

Scalar = bool | int | float | str


class _InOrder:
    """Mixed into a strategy: replies are sorted by node before they are aggregated.

    ``fixed`` arrays stay as they were sent first.
    """

    fixed: Sequence[str] = ()
    _first: ArrayRecord | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        if self._first is None:
            self._first = ArrayRecord({name: arrays[name] for name in self.fixed})
        found: Any = super()
        messages: Iterable[Message] = found.configure_train(server_round, arrays, config, grid)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        found: Any = super()
        ordered = _sorted(replies)
        if _weigh_nothing(ordered):
            raise ValueError("no hospital has an example to train on")
        arrays, metrics = found.aggregate_train(server_round, ordered)
        if arrays is not None:
            for name, array in (self._first or {}).items():
                arrays[name] = array
        return arrays, metrics

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        found: Any = super()
        ordered = _sorted(replies)
        if _weigh_nothing(ordered):  # nobody is held out anywhere
            return None
        result: MetricRecord | None = found.aggregate_evaluate(server_round, ordered)
        return result


def _weigh_nothing(replies: Sequence[Message]) -> bool:
    """Say whether there are replies, and all are of hospitals without an example."""
    told = [
        record["num-examples"]
        for reply in replies
        if reply.has_content()
        for record in reply.content.metric_records.values()
        if "num-examples" in record
    ]
    return bool(told) and not any(told)


def _sorted(replies: Iterable[Message]) -> list[Message]:
    return sorted(replies, key=lambda reply: int(reply.metadata.src_node_id))


def _mean_over_hospitals(records: list[RecordDict], key: str) -> MetricRecord:
    """Average metrics over the hospitals with an example, whatever their number of examples."""
    alike = []
    for record in records:
        told = next(iter(record.metric_records.values()))
        alike.append(RecordDict({"metrics": MetricRecord({**told, key: int(told[key] > 0)})}))
    found: MetricRecord = aggregate_metricrecords(alike, key)
    return found


class _FedAvg(_InOrder, FedAvg):  # type: ignore[misc]  # Flower is untyped here
    pass


class _FedProx(_InOrder, FedProx):  # type: ignore[misc]
    pass


class _FedAvgM(_InOrder, FedAvgM):  # type: ignore[misc]
    pass


class _FedAdam(_InOrder, FedAdam):  # type: ignore[misc]
    pass


class _FedYogi(_InOrder, FedYogi):  # type: ignore[misc]
    pass


class _QuasiNewton(_InOrder, QuasiNewton):
    pass


def is_full_gradient(config: Mapping[str, Scalar]) -> bool:
    """Say whether a hospital's round is one plain step on all its examples: its gradient."""
    from learning.training import Local

    local = Local.of(config)
    one = local.steps == 1 or (local.steps == 0 and local.epochs == 1 and local.least_steps <= 1)
    changed = local.momentum or local.clip_norm or local.mixed_precision
    return one and local.batch_size == 0 and local.optimiser == "sgd" and not changed


def strategy_of(config: Mapping[str, Scalar], *, evaluate: bool = True) -> Strategy:
    """Return the strategy that ``strategy`` names, federated averaging when nothing does.

    ``fedavg``, ``fedprox`` (``proximal-mu``), ``fedavgm`` (``server-learning-rate``,
    ``server-momentum``), ``fedadam`` and ``fedyogi`` (``server-learning-rate``), ``lbfgs`` for
    rounds of one plain step on all examples. All ``minimum-nodes`` must take part in a round.
    ``mean-over`` "hospitals" lets each hospital count alike in what evaluation shows, as published
    federated benchmarks do; a secure sum is always over patients.
    """
    minimum = int(config["minimum-nodes"])
    common: dict[str, Any] = {
        "fraction_evaluate": 1.0 if evaluate else 0.0,
        "min_train_nodes": minimum,
        "min_evaluate_nodes": minimum if evaluate else 0,
        "min_available_nodes": minimum,
    }
    over = config.get("mean-over", "patients")
    if over not in ("patients", "hospitals"):
        raise ValueError("mean-over: must be patients or hospitals")
    if over == "hospitals":
        common["evaluate_metrics_aggr_fn"] = _mean_over_hospitals
    rate = float(config.get("server-learning-rate", 0.0))
    name = config.get("strategy", "fedavg")
    if name == "fedavg":
        return _FedAvg(**common)
    if name == "fedprox":
        return _FedProx(**common, proximal_mu=float(config.get("proximal-mu", 0.0)))
    if name == "fedavgm":
        momentum = float(config.get("server-momentum", 0.9))
        return _FedAvgM(**common, server_learning_rate=rate or 1.0, server_momentum=momentum)
    if name == "fedadam":
        return _FedAdam(**common, eta=rate or 0.1)
    if name == "fedyogi":
        return _FedYogi(**common, eta=rate or 0.01)
    if name == "lbfgs":
        if not is_full_gradient(config):
            raise ValueError(
                "strategy: lbfgs needs one step of sgd a round, on all examples, without momentum,"
                " clip-norm or mixed-precision"
            )
        return _QuasiNewton(**common, weight_decay=float(config.get("weight-decay", 0.0)))
    raise ValueError("strategy: must be fedavg, fedprox, fedavgm, fedadam, fedyogi or lbfgs")


def run(
    grid: Grid,
    context: Context,
    initial: ArrayRecord,
    *,
    strategy: Strategy | None = None,
    evaluate: bool = True,
    fixed: Sequence[str] = (),
) -> Result:
    """Run ``num-server-rounds``; the last model is left in the context's state, as ``arrays``.

    ``fixed`` arrays stay as they are sent in round 1, whatever a gate's noise made of them. With
    ``schedule`` "cosine" the learning rate falls to a hundredth in the last round.
    """
    config = context.run_config
    rate, number = float(config["learning-rate"]), int(config["num-server-rounds"])
    schedule = config.get("schedule", "constant")
    if schedule not in ("constant", "cosine"):
        raise ValueError("schedule: must be constant or cosine")
    chosen = strategy if strategy is not None else strategy_of(config, evaluate=evaluate)
    if fixed:
        if not isinstance(chosen, _InOrder):
            raise ValueError("only a strategy of learning.rounds holds arrays fixed")
        chosen.fixed = tuple(fixed)
    if schedule == "cosine":
        falling = cosine(rate, rounds=number, final=rate / 100)
        chosen = Scheduled(chosen, {"learning-rate": falling})
    result = chosen.start(
        grid=grid,
        initial_arrays=initial,
        num_rounds=number,
        train_config=ConfigRecord({"learning-rate": rate}),
    )
    context.state["arrays"] = result.arrays
    return result
