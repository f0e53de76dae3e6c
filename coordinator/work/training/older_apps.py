"""Flower apps of the older kind, ``server_fn`` and workflows, observed as today's are.

Written for Flower 1.41, whose version is pinned. Runs only in the ServerApp's own process.

An app's strategy is watched where its rounds are put together, and its last parameters are the
model. The rounds of ``server_fn`` are made to go through one ``send_and_receive``, since a thread
for each client would answer in another order every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flwr.server.server as legacy
import numpy as np
from flwr.app import Message, RecordDict
from flwr.common import Code, ndarrays_to_parameters
from flwr.compat.common import recorddict_compat as compat
from flwr.server.client_manager import SimpleClientManager
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow import default_workflows as workflows
from flwr.server.workflow.constant import MAIN_PARAMS_RECORD
from flwr.serverapp import Grid

from contract.errors import DocumentError
from coordinator.work.training.flower import (
    ON_THE_SERVER,
    Observed,
    Watch,
    arrays_of,
    begin_with,
    described,
    needs_single_updates,
)
from coordinator.work.training.grid import TooFewSites, WardgateGrid
from foundation.flower import read_npy


def observe(observed: Observed, watch: Watch, grid: WardgateGrid) -> None:
    """Make the rounds of older apps deterministic and seen, and keep their last parameters."""
    _observe_servers(observed, watch)
    _observe_workflows(observed, watch)

    wait_for = SimpleClientManager.wait_for

    def wait_for_sites(self: Any, num_clients: int, timeout: int = 86400) -> bool:
        there_are = grid.number_of_sites
        if num_clients > there_are:  # it would be waited for a day
            raise TooFewSites(
                f"The ServerApp waits for {num_clients} sites, and {there_are} take part."
            )
        there: bool = wait_for(self, num_clients, timeout)
        return there

    legacy.fit_clients = _asking(
        grid, "train",
        lambda ins: compat.fitins_to_recorddict(ins, keep_input=True),
        lambda content: compat.recorddict_to_fitres(content, keep_input=False),
    )  # fmt: skip
    legacy.evaluate_clients = _asking(
        grid, "evaluate",
        lambda ins: compat.evaluateins_to_recorddict(ins, keep_input=True),
        compat.recorddict_to_evaluateres,
    )  # fmt: skip
    SimpleClientManager.wait_for = wait_for_sites


def _observe_servers(observed: Observed, watch: Watch) -> None:
    """Observe what ``server_fn`` runs."""
    fit, initial = legacy.Server.fit, legacy.Server._get_initial_parameters

    def initial_parameters(self: Any, server_round: int, timeout: float | None) -> Any:
        parameters = initial(self, server_round, timeout)
        if observed.start_from is None:
            return parameters
        own = arrays_of(compat.parameters_to_arrayrecord(parameters, keep_input=True))
        return compat.arrayrecord_to_parameters(begin_with(observed, own), keep_input=True)

    def observed_fit(self: Any, num_rounds: int, timeout: float | None) -> Any:
        _watch_strategy(self.strategy, num_rounds, observed, watch)
        outcome = fit(self, num_rounds=num_rounds, timeout=timeout)
        record = compat.parameters_to_arrayrecord(self.parameters, keep_input=True)
        observed.model = arrays_of(record) if self.parameters.tensors else None
        return outcome

    legacy.Server._get_initial_parameters = initial_parameters
    legacy.Server.fit = observed_fit


def _observe_workflows(observed: Observed, watch: Watch) -> None:
    """Observe what an app starts as a ``DefaultWorkflow``."""
    run, initial = workflows.DefaultWorkflow.__call__, workflows.default_init_params_workflow

    def initial_parameters(grid: Grid, context: Any) -> None:
        initial(grid, context)
        if observed.start_from is not None:
            records = context.state.array_records
            own = arrays_of(records[MAIN_PARAMS_RECORD])
            records[MAIN_PARAMS_RECORD] = begin_with(observed, own)

    def observed_run(self: Any, grid: Grid, context: Any) -> None:
        _watch_strategy(context.strategy, context.config.num_rounds, observed, watch)
        run(self, grid, context)
        record = context.state.array_records.get(MAIN_PARAMS_RECORD)
        observed.model = arrays_of(record) if record else None

    def summed(self: Any, grid: Grid, context: Any) -> None:
        raise DocumentError(
            "Flower's own secure aggregation isn't run here: leave its workflow and its mod out, "
            "and ask for the job with --secure."
        )

    SecAggPlusWorkflow.__call__ = summed
    workflows.default_init_params_workflow = initial_parameters
    workflows.DefaultWorkflow.__call__ = observed_run


def _watch_strategy(strategy: Any, num_rounds: int, observed: Observed, watch: Watch) -> None:
    """Show each round of an older strategy, and keep its parameters in the dtypes they began in."""
    observed.strategy = described(strategy, num_rounds)
    observed.single_updates = needs_single_updates(strategy)
    configure, fit = strategy.configure_fit, strategy.aggregate_fit
    sent: Any = None

    def configure_fit(server_round: int, parameters: Any, client_manager: Any) -> Any:
        nonlocal sent
        sent = parameters
        return configure(
            server_round=server_round, parameters=parameters, client_manager=client_manager
        )

    def aggregate_fit(server_round: int, results: Any, failures: Any) -> Any:
        parameters, metrics = fit(server_round, results, failures)
        if parameters is not None and sent is not None:
            parameters = _parameters_in_their_dtypes(parameters, sent)
        watch(server_round, "train", metrics or {})
        return parameters, metrics

    def shown(step: str, evaluate: Callable[..., Any]) -> Callable[..., Any]:
        def evaluated(server_round: int, *of: Any, **named: Any) -> Any:
            result = evaluate(server_round, *of, **named)
            if result is not None:
                loss = {} if result[0] is None else {"loss": result[0]}
                watch(server_round, step, {**loss, **(result[1] or {})})
            return result

        return evaluated

    strategy.configure_fit, strategy.aggregate_fit = configure_fit, aggregate_fit
    strategy.aggregate_evaluate = shown("evaluate", strategy.aggregate_evaluate)
    strategy.evaluate = shown(ON_THE_SERVER, strategy.evaluate)


def _parameters_in_their_dtypes(after: Any, before: Any) -> Any:
    """Return an older app's new parameters with the dtypes of those before; see above."""
    pairs = list(zip(after.tensors, before.tensors, strict=False))
    if len(pairs) != len(after.tensors) or after.tensor_type != "numpy.ndarray":
        return after
    arrays = [(read_npy(new), read_npy(old)) for new, old in pairs]
    if all(new.dtype == old.dtype for new, old in arrays):
        return after
    return ndarrays_to_parameters([np.asarray(n).astype(o.dtype) for n, o in arrays])


def _asking(
    grid: Grid,
    message_type: str,
    to_content: Callable[[Any], RecordDict],
    from_content: Callable[[RecordDict], Any],
) -> Callable[..., tuple[list[Any], list[Any]]]:
    """Return what asks all clients at once: results and failures in the instructions' order."""

    def ask_clients(
        client_instructions: Sequence[Any], max_workers: Any, timeout: float | None, group_id: int
    ) -> tuple[list[Any], list[Any]]:
        proxies = {proxy.node_id: proxy for proxy, _ in client_instructions}
        messages = [
            Message(
                content=to_content(ins),
                dst_node_id=proxy.node_id,
                message_type=message_type,
                group_id=str(group_id),
            )
            for proxy, ins in client_instructions
        ]
        results: list[Any] = []
        failures: list[Any] = []
        for reply in grid.send_and_receive(messages, timeout=timeout):
            proxy = proxies[reply.metadata.src_node_id]
            if reply.has_error():
                failures.append(RuntimeError(reply.error.reason))
                continue
            result = from_content(reply.content)
            good = result.status.code == Code.OK
            (results if good else failures).append((proxy, result))
        return results, failures

    return ask_clients
