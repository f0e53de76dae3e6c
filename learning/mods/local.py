"""Parameters that stay at the site: normalisation layers (FedBN), personalised heads.

Source: Li et al. 2021, "FedBN: Federated Learning on Non-IID Features via Local Batch
Normalization"; Arivazhagan et al. 2019, "Federated Learning with Personalization Layers".
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, Context, Message, MessageType
from flwr.clientapp.typing import ClientAppCallable

if TYPE_CHECKING:
    from torch import nn

STATE = "local-parameters"


class KeepLocal:
    """Keeps the parameters whose names fit a pattern (``fnmatch``) in the context's state.

    The app sees its own values of them, in training and evaluation, from its second training on.
    What goes back holds under their names what came in, bit by bit. So any strategy works with it,
    and the form of a reply is that of the model.

    Guarantee: no value of such a parameter that training gave is in a message. Assumption: the app
    sends them nowhere else, such as in a metric.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if not patterns:
            raise ValueError("at least one pattern is needed")
        self.patterns = tuple(patterns)

    def is_local(self, name: str) -> bool:
        """Say whether a parameter stays."""
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def __call__(self, message: Message, context: Context, app: ClientAppCallable) -> Message:
        """Put the site's own values in, and take them out of the reply."""
        received = _only_arrays(message)
        if received is None:
            return app(message, context)
        name, arrays = received
        kept = {key: array for key, array in arrays.items() if self.is_local(key)}
        own = context.state.array_records.get(STATE, ArrayRecord())
        message.content[name] = ArrayRecord(
            {key: own.get(key, array) for key, array in arrays.items()}
        )
        reply = app(message, context)
        sent = _only_arrays(reply)
        if sent is None:
            return reply
        name, trained = sent
        if message.metadata.message_type.startswith(MessageType.TRAIN):
            context.state[STATE] = ArrayRecord(
                {key: array for key, array in trained.items() if self.is_local(key)}
            )
        reply.content[name] = ArrayRecord(
            {
                key: kept[key] if self.is_local(key) else array
                for key, array in trained.items()
                if key in kept or not self.is_local(key)
            }
        )
        return reply


def _only_arrays(message: Message) -> tuple[str, ArrayRecord] | None:
    if message.has_error() or not message.content.array_records:
        return None
    name: str = next(iter(message.content.array_records))
    return name, message.content.array_records[name]


def norm_layers(model: nn.Module) -> tuple[str, ...]:
    """Return the names of all parameters and statistics of a model's normalisation layers."""
    from torch import nn

    kinds = (
        nn.modules.batchnorm._NormBase,
        nn.GroupNorm,
        nn.LayerNorm,
        nn.LocalResponseNorm,
    )
    layers = [name for name, layer in model.named_modules() if isinstance(layer, kinds)]
    return tuple(
        key for key in model.state_dict() if any(key.startswith(f"{name}.") for name in layers)
    )
