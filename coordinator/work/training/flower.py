"""Every touch of Flower on the coordinator's side: the app, its messages, its strategies.

Written for Flower 1.41, whose version is pinned. Runs only in the ServerApp's own process.

A strategy is observed, not replaced: ``Strategy.start`` is wrapped so that the rounds can be
shown and the last model is kept, which an unmodified app would write to a disk of its own. The
same is done for apps of the older kind (``server_fn``), whose rounds are also made to go through
one ``send_and_receive``, since a thread for each client would answer in another order every time.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import flwr.server.server as legacy
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.app.error import Error
from flwr.app.metadata import Metadata
from flwr.common import Code
from flwr.common.constant import ErrorCode
from flwr.compat.common import recorddict_compat as compat
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Strategy
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from contract.errors import DocumentError
from contract.records import Arrays, Records, Value
from foundation.flower import array_of, to_flower

if TYPE_CHECKING:
    from contract.work import Scalar

SERVER_NODE_ID = 1
TASK_ID = 1
_ERRORS = {
    "exception": ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
    "killed": ErrorCode.CLIENT_APP_CRASHED,
    "absent": ErrorCode.NODE_UNAVAILABLE,
    "timeout": ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
}

Watch = Callable[[int, str, Mapping[str, Any]], None]


class Observed:
    """What was seen of the app while it ran: its last model, and what weighs its sites.

    ``start_from`` are the arrays that the job wants it to begin with; ``started_from`` says whether
    it did.
    """

    def __init__(self, start_from: Arrays | None = None) -> None:
        self.model: Arrays | None = None
        self.start_from = start_from
        self.started_from = False
        self.strategy: dict[str, Value] = {}
        self.weights: frozenset[str] = frozenset()
        self.uniform = False


def identify(run_id: int) -> Run:
    """Tell Flower who this process is, and return the run as Flower describes it."""
    TaskIdentity.task_id = TASK_ID
    TaskIdentity.run_id = run_id
    TaskIdentity.node_id = SERVER_NODE_ID
    return Run.create_empty(run_id)


def load(reference: str) -> ServerApp:
    """Import the ServerApp called ``module:name``; ``DocumentError`` when it is none."""
    module, _, names = reference.partition(":")
    app: object = importlib.import_module(module)
    for name in names.split("."):
        app = getattr(app, name)
    if not isinstance(app, ServerApp):
        raise DocumentError("The bundle's serverapp is no ServerApp.")
    return app


def run_app(
    app: ServerApp, grid: Grid, run_id: int, run_config: Mapping[str, Scalar]
) -> RecordDict:
    """Run the app to its end and return its context's state."""
    context = Context(
        run_id=run_id,
        node_id=SERVER_NODE_ID,
        node_config={},
        state=RecordDict(),
        run_config=dict(run_config),
    )
    app(grid=grid, context=context)
    return context.state


def call(message: Message, task: str) -> None:
    """Give a message the id of the task by which it goes out."""
    message.metadata.__dict__["_message_id"] = task


def reply_to(message: Message, task: str, content: RecordDict) -> Message:
    """Return a node's answer to a message that was sent as ``task``."""
    return Message(metadata=_reply_metadata(message, task), content=content)


def error_to(message: Message, task: str, code: str) -> Message:
    """Return the message by which Flower learns that a node gave no answer: a code, no text."""
    error = Error(_ERRORS.get(code, ErrorCode.UNKNOWN), code)
    return Message(metadata=_reply_metadata(message, task), error=error)


def _reply_metadata(message: Message, task: str) -> Metadata:
    sent = message.metadata
    return Metadata(
        run_id=sent.run_id,
        message_id=f"{task}r",
        src_node_id=sent.dst_node_id,
        dst_node_id=sent.src_node_id,
        reply_to_message_id=task,
        group_id=sent.group_id,
        created_at=sent.created_at,
        ttl=sent.ttl,
        message_type=sent.message_type,
        src_task_id=TASK_ID,
        dst_task_id=TASK_ID,
    )


def arrays_of(record: ArrayRecord) -> Arrays:
    """Return Flower's arrays as the contract's."""
    return Arrays({key: array_of(array) for key, array in record.items()})


# ---- strategies --------------------------------------------------------------------------------


def observe(observed: Observed, watch: Watch) -> None:
    """Wrap ``Strategy.start`` of every strategy from now on."""
    start = Strategy.start

    shape = inspect.signature(start)

    def observed_start(self: Any, *args: Any, **named: Any) -> Any:
        call = shape.bind(self, *args, **named)
        call.apply_defaults()
        observed.strategy = described(self, call.arguments["num_rounds"])
        if observed.start_from is not None:
            own = arrays_of(call.arguments["initial_arrays"])
            call.arguments["initial_arrays"] = begin_with(observed, own)
        key = getattr(self, "weighted_by_key", None)
        observed.weights = frozenset({key} if isinstance(key, str) else ())
        observed.uniform = isinstance(self, FedAvg)
        train, evaluate = self.aggregate_train, self.aggregate_evaluate

        def aggregate_train(server_round: int, replies: Iterable[Message]) -> Any:
            arrays, metrics = train(server_round, replies)
            if arrays is not None:
                observed.model = arrays_of(arrays)
            watch(server_round, "train", metrics or {})
            return arrays, metrics

        def aggregate_evaluate(server_round: int, replies: Iterable[Message]) -> Any:
            metrics = evaluate(server_round, replies)
            if metrics is not None:
                watch(server_round, "evaluate", metrics)
            return metrics

        self.aggregate_train, self.aggregate_evaluate = aggregate_train, aggregate_evaluate
        try:
            result = start(*call.args, **call.kwargs)
        finally:
            del self.aggregate_train, self.aggregate_evaluate
        for server_round, metrics in result.evaluate_metrics_serverapp.items():
            if isinstance(metrics, MetricRecord):
                watch(server_round, "evaluate on the server", metrics)
        if result.arrays:
            observed.model = arrays_of(result.arrays)
        return result

    Strategy.start = observed_start


def begin_with(observed: Observed, own: Arrays) -> ArrayRecord:
    """Return the model that the job starts from, for an app that would start with ``own``.

    Raises ``DocumentError`` unless its arrays have the same names, shapes and dtypes.
    """
    given = observed.start_from or Arrays()
    if _form(given) != _form(own):
        raise DocumentError(
            "The model to start from has other arrays than the recipe's with these parameters."
        )
    observed.started_from = True
    content: Records = {"arrays": given}
    record = to_flower(content)["arrays"]
    assert isinstance(record, ArrayRecord)
    return record


def _form(arrays: Arrays) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {key: (array.dtype.name, array.shape) for key, array in arrays.items.items()}


def described(strategy: object, num_rounds: int) -> dict[str, Value]:
    """Return a strategy's name, those it wraps in brackets, and its settings that are plain."""
    names: list[str] = []
    settings: dict[str, Value] = {"rounds": num_rounds}
    while strategy is not None and len(names) < 5:
        names.append(type(strategy).__name__)
        for key, value in vars(strategy).items():
            if not key.startswith("_") and isinstance(value, bool | int | float | str):
                settings.setdefault(key, value)
        strategy = getattr(strategy, "strategy", None)
    return {"name": "(".join(names) + ")" * (len(names) - 1), **settings}


# ---- apps of the older kind ----------------------------------------------------------------------


def observe_legacy(observed: Observed, watch: Watch, grid: Grid) -> None:
    """Make the rounds of ``server_fn`` apps deterministic, and keep their last parameters."""
    fit, fit_round, evaluate_round = (
        legacy.Server.fit,
        legacy.Server.fit_round,
        legacy.Server.evaluate_round,
    )

    initial = legacy.Server._get_initial_parameters

    def initial_parameters(self: Any, server_round: int, timeout: float | None) -> Any:
        parameters = initial(self, server_round, timeout)
        if observed.start_from is None:
            return parameters
        own = arrays_of(compat.parameters_to_arrayrecord(parameters, keep_input=True))
        return compat.arrayrecord_to_parameters(begin_with(observed, own), keep_input=True)

    def observed_fit(self: Any, num_rounds: int, timeout: float | None) -> Any:
        observed.strategy = described(self.strategy, num_rounds)
        outcome = fit(self, num_rounds=num_rounds, timeout=timeout)
        record = compat.parameters_to_arrayrecord(self.parameters, keep_input=True)
        observed.model = arrays_of(record) if self.parameters.tensors else None
        return outcome

    def observed_fit_round(self: Any, server_round: int, timeout: float | None) -> Any:
        result = fit_round(self, server_round=server_round, timeout=timeout)
        watch(server_round, "train", (result[1] or {}) if result else {})
        return result

    def observed_evaluate_round(self: Any, server_round: int, timeout: float | None) -> Any:
        result = evaluate_round(self, server_round=server_round, timeout=timeout)
        if result:
            loss = {} if result[0] is None else {"loss": result[0]}
            watch(server_round, "evaluate", {**loss, **(result[1] or {})})
        return result

    def fit_clients(
        client_instructions: Sequence[Any], max_workers: Any, timeout: Any, group_id: int
    ) -> Any:
        return _together(
            grid, client_instructions, timeout, group_id, "train",
            lambda ins: compat.fitins_to_recorddict(ins, keep_input=True),
            lambda content: compat.recorddict_to_fitres(content, keep_input=False),
        )  # fmt: skip

    def evaluate_clients(
        client_instructions: Sequence[Any], max_workers: Any, timeout: Any, group_id: int
    ) -> Any:
        return _together(
            grid, client_instructions, timeout, group_id, "evaluate",
            lambda ins: compat.evaluateins_to_recorddict(ins, keep_input=True),
            compat.recorddict_to_evaluateres,
        )  # fmt: skip

    legacy.Server._get_initial_parameters = initial_parameters
    legacy.Server.fit = observed_fit
    legacy.Server.fit_round = observed_fit_round
    legacy.Server.evaluate_round = observed_evaluate_round
    legacy.fit_clients = fit_clients
    legacy.evaluate_clients = evaluate_clients


def _together(
    grid: Grid,
    instructions: Sequence[Any],
    timeout: float | None,
    group_id: int,
    message_type: str,
    to_content: Callable[[Any], RecordDict],
    from_content: Callable[[RecordDict], Any],
) -> tuple[list[Any], list[Any]]:
    """Ask all clients at once; return results and failures in the order of the instructions."""
    proxies = {proxy.node_id: proxy for proxy, _ in instructions}
    messages = [
        Message(
            content=to_content(ins),
            dst_node_id=proxy.node_id,
            message_type=message_type,
            group_id=str(group_id),
        )
        for proxy, ins in instructions
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
