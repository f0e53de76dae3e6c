"""Ditto: beside the model that all share, each site keeps one of its own that is pulled to it.

Source: Li et al. 2021, "Ditto: Fair and Robust Federated Learning Through Personalization",
algorithm 1.
"""

from __future__ import annotations

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType
from flwr.clientapp.typing import ClientAppCallable

STATE = "ditto"
REFERENCE = "reference"
"""The record of arrays to which training is pulled, where it isn't ``arrays``."""


class Ditto:
    """Lets the app train twice: the shared model, whose reply leaves, and the site's own.

    The second time, the app gets the site's own model as its arrays, the shared one as a record
    called ``reference``, and ``proximal-mu`` in its config. It must pull to what ``reference_of``
    gives, with ``learning.gradients.Proximal`` or ``learning.training.train(towards=...)``, so that
    it solves min F(v) + strength / 2 |v - w|^2. In evaluation the app gets the site's own model, so
    that its scores are the personalised ones. The site's own model never leaves.
    """

    def __init__(self, strength: float, *, evaluate_own: bool = True) -> None:
        if strength < 0:
            raise ValueError("strength must be 0 or more")
        self.strength = strength
        self.evaluate_own = evaluate_own

    def __call__(self, message: Message, context: Context, app: ClientAppCallable) -> Message:
        """Run the app for the shared model and for the site's own."""
        groups = list(message.content.array_records)
        if len(groups) != 1:
            return app(message, context)
        [name] = groups
        shared: ArrayRecord = message.content[name]
        own = context.state.array_records.get(STATE, shared)
        training = message.metadata.message_type.startswith(MessageType.TRAIN)
        if not training:
            if self.evaluate_own:
                message.content[name] = own
            return app(message, context)
        before = dict(message.content)
        reply = app(message, context)
        if reply.has_error():
            return reply
        for key in list(message.content):
            del message.content[key]
        for key, record in before.items():
            message.content[key] = record
        message.content[name] = own
        message.content[REFERENCE] = shared
        self._tell(message)
        personal = app(message, context)
        if not personal.has_error() and personal.content.array_records:
            context.state[STATE] = next(iter(personal.content.array_records.values()))
        return reply

    def _tell(self, message: Message) -> None:
        configs = message.content.config_records
        name = next(iter(configs), "config")
        message.content[name] = ConfigRecord(
            {**configs.get(name, {}), "proximal-mu": self.strength}
        )


def reference_of(message: Message) -> ArrayRecord:
    """Return the arrays to which training is pulled: ``reference``, or else those received."""
    records = message.content.array_records
    return records[REFERENCE] if REFERENCE in records else next(iter(records.values()))
