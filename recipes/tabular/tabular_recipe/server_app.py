"""The consortium's half: federated averaging, each hospital weighted by its examples."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import ArrayRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from tabular_recipe import task

app = ServerApp()


class FedAvgInOrder(FedAvg):
    """Federated averaging that adds the replies in the order of the nodes.

    Nodes are sampled at random and answer when they can; a float's sum depends on the order.
    """

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average weights and metrics by number of examples."""
        return super().aggregate_train(server_round, _in_order(replies))

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Average metrics by number of examples."""
        return super().aggregate_evaluate(server_round, _in_order(replies))


def _in_order(replies: Iterable[Message]) -> list[Message]:
    return sorted(replies, key=lambda reply: reply.metadata.src_node_id)


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; the last model is left in the context's state, as ``arrays``."""
    config = context.run_config
    plan = task.Plan.read(config)
    minimum = int(config["minimum-nodes"])
    # Every hospital is asked to score as well, unless nobody is held out.
    scored = plan.held_out > 0
    strategy = FedAvgInOrder(
        min_train_nodes=minimum,
        fraction_evaluate=1.0 if scored else 0.0,
        min_evaluate_nodes=minimum if scored else 0,
        min_available_nodes=minimum,
    )
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(task.build_model(plan).state_dict()),
        num_rounds=int(config["num-server-rounds"]),
    )
    context.state["arrays"] = result.arrays
