"""The five steps of a secure sum as the coordinator leads them, whatever carries the messages.

    for step in steps(server):
        for place in who answered step.told:
            step.take(place, answer)
    server.total()

A site that isn't taken in a step drops out of it. ``Refused`` comes out of the loop when too few
are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from contract import wire_pb2 as wire
from contract.errors import DocumentError
from contract.secure_aggregation import encoding
from contract.secure_aggregation.messages import (
    Advertisement,
    Confirmation,
    MaskedVector,
    Revealed,
)
from contract.secure_aggregation.server import Server

KEYS, SHARES, VECTORS, SURVIVORS, UNMASKING = (
    "keys", "shares", "masked vectors", "list of survivors", "unmasking",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One step: what each site is told, by its place in the terms, and who answered."""

    name: str
    told: Mapping[int, wire.SumStep]
    _kind: type
    _take: Callable[[int, Any], object]
    good: list[int] = field(default_factory=list)
    """Whose answers were as they should be."""

    def take(self, place: int, answer: encoding.Answer) -> None:
        """Take a site's answer; ``DocumentError`` or ``SignatureError`` when it isn't sound."""
        if place not in self.told or not isinstance(answer, self._kind):
            raise DocumentError("A site answered another step.")
        self._take(place, answer)
        self.good.append(place)


def steps(server: Server) -> Iterator[Step]:
    """Yield the steps, each once the one before it has its answers."""
    terms = server.terms
    names = [p.name for p in terms.participants]
    begin = wire.SumStep(terms=wire.SumTerms(sites=names, minimum=terms.minimum))
    everyone = dict.fromkeys(range(terms.sites), begin)
    yield Step(KEYS, everyone, Advertisement, lambda _, a: server.advertised(a))
    told = {i: encoding.encode_introduction(one) for i, one in server.introductions().items()}
    yield Step(SHARES, told, tuple, server.shared)
    told = {
        i: wire.SumStep(shares=encoding.encode_shares(one))
        for i, one in server.deliveries().items()
    }
    yield Step(VECTORS, told, MaskedVector, lambda _, a: server.masked(a))
    told = {i: encoding.encode_survivors(one) for i, one in server.survivors().items()}
    confirming = Step(SURVIVORS, told, Confirmation, lambda _, a: server.confirmed(a))
    yield confirming
    confirmed = encoding.encode_confirmations(server.confirmations())
    told = dict.fromkeys(confirming.good, confirmed)
    yield Step(UNMASKING, told, Revealed, lambda _, a: server.revealed(a))
