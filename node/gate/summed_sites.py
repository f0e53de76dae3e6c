"""Over which sites a job's secure sums of training are learned; a node remembers and limits them.

Two sums over other sites each can be subtracted, and a coordinator that lies can ask anything again
without one site. It needn't even be the same: a model that differs in a digit is answered by nearly
the same update. So the sets are counted, whatever the sums are of. A node writes a set down before
it gives its shares, and gives none beyond ``training.sum_site_sets`` sets of a job; and what is the
same to the bit is summed over one set only.

Guarantee, with c sets: of a job fewer than 2 c sets' sums are learned, and with c of 1 one set's.
Sums over one set of at least m sites tell of no smaller group, however many there are. Sums over
s sets tell the parts of at most s - 1 sites, if s is below m: all sums lie in a space of s
dimensions, and were it that of s sites, no set could have more than s.

Why fewer than 2 c: each set needs the shares of a threshold t above 2/3 of the n sites of a sum,
and each of n - d honest sites gives them for c sets: ``c (n - d) / (t - d)``, which is below 2 c
while ``d < 2 t - n`` of them work with the coordinator.

Assumptions: those of ``contract.secure_aggregation.client``; that the sums are over one list of
sites each time, less those that drop out: lists that hardly overlap aren't counted against each
other, and needn't be, as their sums differ by many sites. Not covered: sums over the sparse graph,
which believe the coordinator; two jobs; what the sums of a fixed set tell.

Source: Bonawitz et al., Practical secure aggregation, CCS 2017, section 6.2, for the count of
shares; So et al., Securing secure aggregation: mitigating multi-round privacy leakage in federated
learning, AAAI 2023, for what changing sets tell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from contract import wire_pb2 as wire
from contract.errors import Refused

_Sites = tuple[str, ...]


def digest_of_inputs(message_type: str, message: wire.RecordDict, payload: bytes) -> str:
    """Return a SHA-256 of what an update is made of: the arrays, or all of a message without."""
    said = hashlib.sha256(message_type.encode() + b"\0")
    said.update(message.tensors.digest.encode() or payload)
    return said.hexdigest()


@dataclass(frozen=True)
class SummedSites:
    """The sets of sites over which this node let sums of a job be learned."""

    sets: tuple[_Sites, ...] = ()
    of_inputs: Mapping[str, int] = field(default_factory=dict)
    """By the digest of what was summed: the place of its set."""

    def join(self, inputs: str, sites: _Sites, most: int) -> SummedSites:
        """Return what is remembered with one sum more; ``Refused`` when it must not be learned."""
        before = self.of_inputs.get(inputs)
        if before is not None and self.sets[before] != sites:
            raise Refused("other-sites", "The same was summed over other sites before.")
        if sites in self.sets:
            return replace(self, of_inputs={**self.of_inputs, inputs: self.sets.index(sites)})
        if len(self.sets) >= most:
            raise Refused(
                "other-sites", "The job's sums were over as many sets of sites as may be."
            )
        return SummedSites((*self.sets, sites), {**self.of_inputs, inputs: len(self.sets)})

    @classmethod
    def read(cls, data: bytes) -> SummedSites:
        """Read what ``to_bytes`` wrote; nothing: no sum yet."""
        said = json.loads(data or b'{"sets": [], "of_inputs": {}}')
        return cls(tuple(tuple(one) for one in said["sets"]), said["of_inputs"])

    def to_bytes(self) -> bytes:
        """Return it as JSON."""
        return json.dumps({"sets": self.sets, "of_inputs": dict(self.of_inputs)}).encode()
