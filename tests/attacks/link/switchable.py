"""A node whose defences can be switched off while it runs, one by one. For the attacks alone.

``python switchable.py FILE serve --home HOME`` is ``wardgate-node serve --home HOME``; while FILE
names a defence, what it replaces runs as if nobody had thought of it. All else is the node's own
code, in its own process, over its own link.
"""

from __future__ import annotations

import functools
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

SWITCHES = Path(sys.argv[1])


def is_off(defence: str) -> bool:
    """Say whether a defence is switched off now."""
    return defence in SWITCHES.read_text().split()


def switch(defence: str, owner: Any, name: str, undefended: Callable[..., Any]) -> None:
    """Let ``undefended`` run in place of ``owner.name`` while the defence is off."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def either(*arguments: Any, **named: Any) -> Any:
        return (undefended if is_off(defence) else original)(*arguments, **named)

    setattr(owner, name, either)


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


def of_asking() -> None:
    """Cells, draws that are kept, and one normal form."""
    from contract.statistics.answers import answer_locally
    from node.gate import exact
    from node.gate.account.account import PrivacyAccount
    from node.gate.dp.draws import Draws
    from node.gate.exact import Exactly
    from node.gate.fitting import FitsTheRelease
    from node.gate.modelling import Together
    from node.work import desk
    from node.work.statistics import cohort_rows

    def each_by_itself(work: Any, *_: Any) -> list[Exactly]:
        return [Exactly("", {"": ()}) for _ in work.ask]

    def work_out(home: Any, release: Any, project: Any, work: Any, cache: Any, *_: Any) -> Any:
        columns, inside = cohort_rows(home, release, project, work, cache)
        if inside is not None:
            columns = {name: column[inside] for name, column in columns.items()}
        return answer_locally(work.ask, project, columns)

    switch("cells", exact, "lanes", each_by_itself)
    switch("cells", desk, "work_out", work_out)
    switch("draws", Draws, "find", nothing)
    switch("account", PrivacyAccount, "_reconcile", nothing)
    switch("together", Together, "check", nothing)
    switch("fitting", FitsTheRelease, "check", nothing)


def of_standing() -> None:
    """Signatures, rosters, nonces, what the ledger remembers."""
    from contract.envelope import Envelope
    from contract.errors import Refused
    from contract.trust import TrustedDocuments
    from node.catalog.asked import Asked
    from node.gate import remembering
    from node.gate.before_work import RosterInForce, SignerOnTheRoster

    def claimed(self: Any, keys: Any) -> set[str]:
        return {s.keyid for s in self.signatures} & set(keys)

    def opened_by_anybody(self: Any, _kind: str, keys: Any, _threshold: int) -> Any:
        return self.signers(keys), self.body

    def any_roster(self: Any, question: Any) -> None:
        if question.trusted.roster is None:
            raise Refused("no-roster", "There is none at all.")
        question.roster = question.trusted.roster.document

    switch("signatures", Envelope, "signers", claimed)
    switch("thresholds", Envelope, "opened", opened_by_anybody)
    switch("versions", TrustedDocuments, "_check_succession", nothing)
    switch("roster-age", RosterInForce, "check", any_roster)
    switch("signer", SignerOnTheRoster, "check", nothing)
    switch("signer", TrustedDocuments, "_forget_projects_of_former_stewards", nothing)
    switch("nonces", Asked, "seen_nonce", nothing)
    switch("nonces", Asked, "answer", nothing)
    switch("nonces", Asked, "add_job", nothing)
    switch("nonces", Asked, "add_answer", nothing)
    switch("memory", remembering, "remember", nothing)


def of_bytes() -> None:
    """Readers of what a stranger sends, and the transport."""
    from foundation import blobs, rpc, tensors
    from foundation.blobs import BlobReceiver
    from node.gate.floods import FloodLimit
    from node.link import client

    def unpickled(buffer: Any) -> Any:
        return pickle.loads(bytes(buffer))

    def unhashed(self: Any) -> None:
        self._file.flush()
        self._part.replace(self._target)

    def insecure(address: str, _: Any, options: Any = None) -> Any:
        return grpc.aio.insecure_channel(address, options=options)

    switch("safetensors", tensors, "views", unpickled)
    switch("digests", blobs, "is_digest", lambda _: True)
    switch("digests", client, "is_digest", lambda _: True)
    switch("digests", BlobReceiver, "finish", unhashed)
    switch("printable", rpc, "printable", lambda text, *_: text)
    switch("tls", grpc.aio, "secure_channel", insecure)
    switch("floods", FloodLimit, "take", lambda *_: True)


def main() -> None:
    """Serve."""
    for put_in in (of_asking, of_standing, of_bytes):
        put_in()
    from node.cli import main as node

    sys.argv = ["wardgate-node", *sys.argv[2:]]
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    node()


if __name__ == "__main__":
    main()
