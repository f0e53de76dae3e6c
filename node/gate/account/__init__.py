"""The privacy account: what answers with noise have cost, and what may still be spent."""

from node.gate.account.account import Charge, Limits, PrivacyAccount, Standing
from node.gate.account.events import Event, PureRelease
from node.gate.account.tally import Payer

__all__ = ["Charge", "Event", "Limits", "Payer", "PrivacyAccount", "PureRelease", "Standing"]
