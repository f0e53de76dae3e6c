"""Every touch of Flower on the coordinator's side: the app, its messages, its strategies.

Written for Flower 1.41, whose version is pinned. Runs only in the ServerApp's own process.

A strategy is observed, not replaced: its ``start`` is wrapped so that the rounds can be shown and
the last model is kept, which an unmodified app would write to a disk of its own. Apps of the older
kind are observed by ``older_apps``.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.app.error import Error
from flwr.app.metadata import Metadata
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, FedXgbBagging, FedXgbCyclic, Strategy
from flwr.serverapp.strategy.result import Result
from flwr.supercore.differential_privacy import KEY_NORM_BIT
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from contract.errors import DocumentError
from contract.records import Arrays, Records, Value
from foundation.flower import array_of, to_flower

if TYPE_CHECKING:
    from contract.work import Scalar
    from coordinator.work.training.checks import Trees

SERVER_NODE_ID = 1
TASK_ID = 1
ON_THE_SERVER = "evaluate on the server"
COUNTS_CLIPPED = "DifferentialPrivacyClientSideAdaptiveClipping"
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
        self.instead: Callable[[Any], Any] | None = None
        """What makes the strategy that is run in place of the app's; None once it was."""
        self.weights: frozenset[str] = frozenset()
        self.uniform = False
        self.single_updates = ""
        """Why the strategy can't work on the sum of its sites' updates alone."""
        self.trees: Trees = "no"
        self.running = False


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
    """Wrap ``start`` of every strategy from now on, also where an app's own class replaces it."""

    def wrap(kind: type) -> None:
        if "start" in vars(kind):
            kind.start = _observed_start(vars(kind)["start"], observed, watch)  # type: ignore[attr-defined]

    def of_a_new_class(cls: type[Any], /, **named: Any) -> None:
        super(Strategy, cls).__init_subclass__(**named)
        wrap(cls)

    known = [Strategy]
    for kind in known:
        wrap(kind)
        known += kind.__subclasses__()
    Strategy.__init_subclass__ = classmethod(of_a_new_class)


def _observed_start(
    start: Callable[..., Any], observed: Observed, watch: Watch
) -> Callable[..., Any]:
    shape = inspect.signature(start)

    @functools.wraps(start)
    def observed_start(self: Any, *args: Any, **named: Any) -> Any:
        if observed.running:  # a class's own start goes on to that of its parent
            return start(self, *args, **named)
        if observed.instead is not None:
            other, observed.instead = observed.instead(self), None
            return other.start(*args, **named)
        call = shape.bind(self, *args, **named)
        call.apply_defaults()
        observed.strategy = described(self, int(call.arguments.get("num_rounds", 0)))
        if observed.start_from is not None and "initial_arrays" in call.arguments:
            own = arrays_of(call.arguments["initial_arrays"])
            call.arguments["initial_arrays"] = begin_with(observed, own)
        shown: set[int] = set()
        if callable(own_evaluation := call.arguments.get("evaluate_fn")):
            call.arguments["evaluate_fn"] = _shown_at_once(own_evaluation, shown, watch)
        _take_note_of_kind(observed, self)
        names = ("configure_train", "aggregate_train", "aggregate_evaluate")
        for name, method in zip(names, _watched(self, observed, watch), strict=True):
            setattr(self, name, method)
        observed.running = True
        try:
            result = start(*call.args, **call.kwargs)
        finally:
            observed.running = False
            for name in names:
                delattr(self, name)
        if isinstance(result, Result):
            for server_round, metrics in result.evaluate_metrics_serverapp.items():
                if isinstance(metrics, MetricRecord) and server_round not in shown:
                    watch(server_round, ON_THE_SERVER, metrics)
            if result.arrays:
                observed.model = arrays_of(result.arrays)
        return result

    return observed_start


def _shown_at_once(
    evaluate: Callable[..., Any], shown: set[int], watch: Watch
) -> Callable[..., Any]:
    """Return an app's own evaluation at the server, whose numbers are shown when they come."""

    @functools.wraps(evaluate)
    def shown_at_once(*args: Any, **named: Any) -> Any:
        metrics = evaluate(*args, **named)
        server_round = args[0] if args else named.get("server_round")
        if isinstance(metrics, MetricRecord) and isinstance(server_round, int):
            shown.add(server_round)
            watch(server_round, ON_THE_SERVER, metrics)
        return metrics

    return shown_at_once


def _take_note_of_kind(observed: Observed, strategy: object) -> None:
    inner = innermost(strategy)
    # QFedAvg weighs by the loss as well, and ends its run when a site has none.
    keys = [getattr(inner, name, None) for name in ("weighted_by_key", "train_loss_key")]
    if any(type(one).__name__ == COUNTS_CLIPPED for one in chain(strategy)):
        keys.append(KEY_NORM_BIT)
    observed.weights = frozenset(key for key in keys if isinstance(key, str))
    observed.single_updates = needs_single_updates(strategy)
    observed.uniform = isinstance(inner, FedAvg)
    observed.trees = "no"
    if isinstance(inner, FedXgbBagging | FedXgbCyclic):
        observed.trees = "bagging" if isinstance(inner, FedXgbBagging) else "cyclic"


def _watched(strategy: Any, observed: Observed, watch: Watch) -> tuple[Callable[..., Any], ...]:
    """Return a strategy's methods, as they are but watched."""
    configure, train = strategy.configure_train, strategy.aggregate_train
    evaluate = strategy.aggregate_evaluate
    sent: ArrayRecord = {}

    def configure_train(server_round: int, arrays: ArrayRecord, *args: Any, **named: Any) -> Any:
        nonlocal sent
        sent = arrays
        return configure(server_round, arrays, *args, **named)

    def aggregate_train(server_round: int, replies: Iterable[Message]) -> Any:
        arrays, metrics = train(server_round, replies)
        if arrays is not None:
            arrays = _in_its_dtypes(arrays, sent)
            observed.model = arrays_of(arrays)
        watch(server_round, "train", metrics or {})
        return arrays, metrics

    def aggregate_evaluate(server_round: int, replies: Iterable[Message]) -> Any:
        metrics = evaluate(server_round, replies)
        if metrics is not None:
            watch(server_round, "evaluate", metrics)
        return metrics

    return configure_train, aggregate_train, aggregate_evaluate


def _in_its_dtypes(arrays: ArrayRecord, sent: ArrayRecord) -> ArrayRecord:
    """Return a new model with the dtypes of the one before.

    A mean makes reals of whole numbers, such as a normalisation layer's count of batches. A site
    would send back whole ones, which are not like what it got. They are cut off as PyTorch does.
    """
    changed = [k for k, a in arrays.items() if k in sent and a.dtype != sent[k].dtype]
    if not changed:
        return arrays
    kept = ArrayRecord(dict(arrays))
    for key in changed:
        kept[key] = Array(np.asarray(array_of(arrays[key])).astype(sent[key].dtype))
    return kept


def cross_evaluation(name_of: Callable[[int], str], minimum: int) -> Callable[[Any], Any]:
    """Return what makes a cross-site evaluation of the strategy that an app would start.

    It is loaded by its name, as a recipe's own strategy is: it runs on the recipe's side.
    """
    kind = importlib.import_module("learning.strategies.cross").CrossEvaluation
    shared = ("weighted_by_key", "arrayrecord_key", "configrecord_key", "train_metrics_aggr_fn",
              "evaluate_metrics_aggr_fn", "min_available_nodes")  # fmt: skip

    def instead(strategy: Any) -> Any:
        inner = innermost(strategy)
        known = {name: getattr(inner, name) for name in shared if hasattr(inner, name)}
        nodes = {"min_train_nodes": minimum, "min_evaluate_nodes": minimum}
        return kind(name_of=name_of, **{"min_available_nodes": minimum, **known, **nodes})

    return instead


def chain(strategy: object) -> Iterator[object]:
    """Yield a strategy and, one after another, those that it is put around."""
    for _ in range(10):
        if strategy is None:
            return
        yield strategy
        strategy = getattr(strategy, "strategy", None)


def innermost(strategy: object) -> object:
    """Return the strategy that the others are put around."""
    *_, last = chain(strategy)
    return last


_SINGLE_UPDATES = {
    "FedMedian": "takes the median over the sites",
    "FedTrimmedAvg": "leaves out the sites' largest and smallest values",
    "Krum": "compares the sites' updates with one another",
    "MultiKrum": "compares the sites' updates with one another",
    "Bulyan": "compares the sites' updates with one another",
    "QFedAvg": "weighs each site's update by its loss",
    "FedXgbBagging": "adds each site's trees to the ensemble",
    "FedXgbNnAvg": "adds each site's trees to the ensemble",
    "FedXgbCyclic": "hands one site's model to the next",
    "DifferentialPrivacyServerSideFixedClipping": "clips each site's update",
    "DifferentialPrivacyServerSideAdaptiveClipping": "clips each site's update",
    "DifferentialPrivacyClientSideAdaptiveClipping": "counts the sites that clipped",
}


def needs_single_updates(strategy: object) -> str:
    """Return in one sentence why a strategy can't work on the sum of its sites' updates alone.

    Empty when it can. Strategies of Flower's, both kinds, are known by name, with their subclasses;
    others say so by an attribute ``needs_single_updates``. One that says nothing is taken to work
    on means: what it gets in secure aggregation is one mean, so it can learn no more.
    """
    for one in chain(strategy):
        for kind in type(one).__mro__:
            reason = _SINGLE_UPDATES.get(kind.__name__)
            if reason and kind.__module__.startswith("flwr."):
                return f"{kind.__name__} {reason}, which secure aggregation hides."
        said = getattr(one, "needs_single_updates", "")
        if isinstance(said, str) and said:
            return said
    return ""


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
