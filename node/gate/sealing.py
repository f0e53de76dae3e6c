"""Where a message is written on the ledger and sealed: answers, and notices of a closed list.

The link sends what is sealed and nothing else, and nobody else can seal.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any

from contract import wire_pb2 as wire
from contract.receipts import Receipt
from node.catalog.asked import AnswerRow
from node.gate.state import Admission, Membership, State

_SEAL = object()


class Sealed:
    """A message that may leave: only the gate makes one, and the link sends nothing else.

    ``tensors`` is the blob that goes with it, empty without any.
    """

    def __init__(self, seal: object, message: wire.FromNode, tensors: bytes = b"") -> None:
        if seal is not _SEAL:
            raise TypeError("Only the gate seals messages.")
        self.message = message
        self.tensors = tensors


def entry_of(
    member: Membership,
    admission: Admission,
    task: str,
    payload: bytes,
    *,
    policy: str,
    lane: str,
    rules: Sequence[str],
    tensors: wire.BlobReference | None = None,
    **more: object,
) -> dict[str, object]:
    """Return the ledger's entry of an answer: what leaves, of what, by which rules.

    ``policy`` is its digest, and ``more`` what only some answers have; what is empty is left out.
    """
    blob = tensors or wire.BlobReference()
    return {
        "consortium": member.consortium,
        "job": admission.digest,
        "task": task,
        "work": admission.job.work.kind,
        "project": admission.job.project,
        "researcher": admission.job.researcher,
        "release": admission.release.digest,
        "payload": hashlib.sha256(payload).hexdigest(),
        "tensors": blob.digest,
        "bytes": len(payload) + blob.size,
        "lane": lane,
        "rules": list(rules),
        "policy": policy,
        **{name: value for name, value in more.items() if value},
    }


class Sealing(State):
    """The two ways for a message to leave, each on the ledger first."""

    def _notice(
        self, member: Membership, what: str, message: wire.FromNode, job: str = ""
    ) -> Sealed:
        data = message.SerializeToString(deterministic=True)
        kept = self.ledger.keep_payload(data)
        self.ledger.append(
            "notice",
            {
                "consortium": member.consortium,
                "what": what,
                **({"job": job} if job else {}),
                "payload": kept,
                "kept": [kept],
                "bytes": len(data),
            },
            self.clock(),
        )
        return Sealed(_SEAL, message)

    def heartbeat(self) -> Sealed:
        """Seal an empty message. It says nothing, so it is not on the ledger."""
        return Sealed(_SEAL, wire.FromNode(heartbeat=wire.Empty()))

    def _leave(
        self,
        member: Membership,
        admission: Admission,
        task: str,
        entry: dict[str, Any],
        payload: bytes,
        tensors: bytes,
        seconds: float,
    ) -> Sealed:
        """Write an answer on the ledger, receipt it, keep it to be sent again, seal it.

        What is synced, in this order: the kept payload, the catalogue's row of the answer (and, if
        it is new, of its job), the ledger's entry (and that its job was admitted). So one sync of
        the ledger does for both entries. After a power cut between the last two, the row is of an
        answer that never left: ``again`` drops it. An answer with tensors is on the ledger before
        its row, as a recipe's state counts on the row.
        """
        now = self.clock()
        kept = [
            self.ledger.keep_payload(data)
            for data in (payload, tensors)
            if data and len(data) <= self.policy().ledger.keep_payload_bytes
        ]
        body = entry | {"kept": kept}
        if "masked" in entry:
            # The head leaves. Without this, who knows the rest of the entry could try what was
            # masked until the head comes out.
            body["salt"] = secrets.token_hex(16)
        head = self.ledger.append("answer", body, now, sync=bool(tensors))
        receipt = Receipt(
            consortium=member.consortium,
            site=member.site,
            job=admission.digest,
            task=task,
            release=admission.release.digest,
            payload=entry["payload"],
            payload_bytes=entry["bytes"],
            rules=tuple(entry["rules"]),
            lane=entry["lane"],
            noise=tuple(entry.get("noise", ())) if self.policy().privacy.tell_spent else (),
            ledger_sequence=head.sequence,
            ledger_head=head.hash,
            time=now,
        ).sign(member.key)
        row = AnswerRow(
            admission.digest, task, payload, entry["tensors"], len(tensors), receipt, False
        )
        self.asked.add_answer(row, head.sequence, seconds)
        self.ledger.sync()
        return self._seal_answer(row, tensors)

    def again(self, job: str, task: str, tensors: bytes = b"") -> Sealed | None:
        """Return an answer that passed before and wasn't received, or None. It is on the ledger."""
        row = self.asked.answer(job, task)
        if row is None:
            return None
        sequence, hash_ = Receipt.head_of(row.receipt)
        if not self.ledger.holds(sequence, hash_.hex()):
            self.asked.drop_answer(job, task)
            return None
        return self._seal_answer(row, tensors)

    def _seal_answer(self, row: AnswerRow, tensors: bytes) -> Sealed:
        reply = wire.Reply(
            job=row.job,
            task=row.task,
            payload=row.payload,
            tensors=wire.BlobReference(digest=row.tensors_digest, size=row.tensors_size),
            receipt=row.receipt,
        )
        return Sealed(_SEAL, wire.FromNode(reply=reply), tensors)
