"""A site's half of SCAFFOLD: its control variate, and the correction of each of its steps.

Source: Karimireddy et al. 2020, algorithm 1, option II, whose new variate
c_i - c + (x - y) / (K eta) is the mean of the K uncorrected gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, Context, Message, MessageType
from flwr.clientapp.typing import ClientAppCallable
from numpy.typing import NDArray

from learning.strategies.scaffold import CONTROL

STATE = "scaffold"
CORRECTION = "correction"
GRADIENTS = "gradients"


def corrections(message: Message) -> dict[str, NDArray[Any]]:
    """Return c - c_i, which the app adds to the gradient of each step, by parameter."""
    record = message.content.array_records.get(CORRECTION, {})
    return {key: array.numpy() for key, array in record.items()}


def keep_control(reply: Message, gradients: Mapping[str, NDArray[Any]]) -> None:
    """Hand over the mean of the uncorrected gradients of all steps, by parameter."""
    reply.content[GRADIENTS] = ArrayRecord({k: Array(v) for k, v in gradients.items()})


def gradients_from(
    received: Mapping[str, NDArray[Any]],
    trained: Mapping[str, NDArray[Any]],
    correction: Mapping[str, NDArray[Any]],
    *,
    steps: int,
    learning_rate: float,
) -> dict[str, NDArray[Any]]:
    """Return the mean of the uncorrected gradients, from where plain gradient steps led.

    (x - y) / (K eta) - (c - c_i), for loops of which only the ends are seen. Without momentum only.
    """
    scale = max(1, steps) * learning_rate
    return {k: (received[k] - trained[k]) / scale - correction[k] for k in correction}


def scaffold(message: Message, context: Context, app: ClientAppCallable) -> Message:
    """Give the app the model and the correction; send its model and its variate's change.

    The app calls ``corrections`` and ``keep_control``; in PyTorch ``learning.gradients.Corrected``
    does the rest. Raises ``ValueError`` for an app that handed nothing over.
    """
    if not message.metadata.message_type.startswith(MessageType.TRAIN):
        return app(message, context)
    name: str = next(iter(message.content.array_records))
    received = message.content[name]
    control = {k.removeprefix(CONTROL): a for k, a in received.items() if k.startswith(CONTROL)}
    own = context.state.array_records.get(STATE, {})
    before = {k: own[k].numpy() if k in own else c.numpy() * 0 for k, c in control.items()}
    message.content[name] = ArrayRecord(
        {key: array for key, array in received.items() if not key.startswith(CONTROL)}
    )
    message.content[CORRECTION] = ArrayRecord(
        {key: Array(c.numpy() - before[key]) for key, c in control.items()}
    )
    reply = app(message, context)
    if reply.has_error():
        return reply
    if GRADIENTS not in reply.content:
        raise ValueError("the app gave no gradients: it must call keep_control")
    gradients = reply.content[GRADIENTS]
    del reply.content[GRADIENTS]
    # A parameter that was not trained, such as a running mean, keeps its variate.
    after = {
        key: gradients[key].numpy().astype(old.dtype) if key in gradients else old
        for key, old in before.items()
    }
    context.state[STATE] = ArrayRecord({key: Array(value) for key, value in after.items()})
    model = next(iter(reply.content.array_records.values()))
    both = {key: model[key] for key in model}
    for key, c in control.items():
        both[CONTROL + key] = Array(c.numpy() + (after[key] - before[key]))
    reply.content[next(iter(reply.content.array_records))] = ArrayRecord(both)
    return reply
