"""The gate of a node: the one way in and the one way out. What it does is in its parts' modules."""

from __future__ import annotations

from node.gate.admitting import FLOOD
from node.gate.sealing import Sealed
from node.gate.settling import Settling
from node.gate.state import Admission, Membership
from node.gate.summing import Summing

__all__ = ["FLOOD", "Admission", "Gate", "Membership", "Sealed"]


class Gate(Summing, Settling):
    """The gate of one node, over all consortia: one catalogue, one policy, one ledger.

    ``clock`` gives the time in UTC; ``policy`` is asked anew each time, so that a changed file
    holds from the next question on. ``noise_key`` is the file of the secret from which noise on
    model updates is drawn; without one, a policy that wants noise lets no update out.

    The way in is ``node.gate.admitting``, the way out ``node.gate.answering``, for secure sums of
    training ``node.gate.summing`` and, for notices, ``node.gate.announcing``. All ways out end in
    ``node.gate.sealing``.
    """
