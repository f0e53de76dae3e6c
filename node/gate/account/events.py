"""What one release with noise costs, as an account is charged for it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from contract.errors import DocumentError
from node.gate.updates.noise import GaussianRelease

__all__ = ["Event", "GaussianRelease", "PureRelease", "parse", "text"]


@dataclass(frozen=True)
class PureRelease:
    """One release by any mechanism that is epsilon-differentially private."""

    epsilon: float


Event = PureRelease | GaussianRelease


def text(event: Event) -> str:
    """Return an event as catalogue and ledger hold it: JSON in one form."""
    if isinstance(event, PureRelease):
        return json.dumps({"epsilon": event.epsilon})
    return json.dumps({"noise_multiplier": event.noise_multiplier, "sampling": event.sampling})


def parse(written: str) -> Event:
    """Return the event of a text; ``DocumentError`` for anything else."""
    try:
        values = json.loads(written)
        kind = PureRelease if "epsilon" in values else GaussianRelease
        event = kind(**{str(name): float(value) for name, value in values.items()})
    except (ValueError, TypeError, AttributeError):
        raise DocumentError("A privacy event is malformed.") from None
    check(event)
    return event


def check(event: Event) -> None:
    """Raise ``DocumentError`` for what is no release with noise."""
    if isinstance(event, PureRelease):
        good = 0 < event.epsilon < math.inf
    else:
        good = 0 < event.noise_multiplier < math.inf and 0 < event.sampling <= 1
    if not good:
        raise DocumentError("A privacy event is malformed.")
