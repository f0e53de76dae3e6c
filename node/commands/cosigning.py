"""What is let in for the whole node, and by how many of its stewards."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from contract.errors import SignatureError
from node.commands.options import record

if TYPE_CHECKING:
    from node.catalog.store import Catalog
    from node.home import NodeHome


def signed_by_enough(
    catalog: Catalog,
    node: NodeHome,
    what: Literal["recipe", "weights"],
    digest: str,
    key: Path | None,
) -> bool:
    """Say whether as many stewards as the policy asks for approved this, our own one included.

    Where one is enough, whoever may write here decides, and no signature is asked for.
    """
    from node.catalog.asked import Asked
    from node.catalog.inbox import Inbox
    from node.commands.steward import present_key
    from node.gate.inbox.decisions import decide, verdict
    from node.gate.inbox.stewards import allowed_keys
    from node.gate.policy import load_policy

    people = load_policy(node.policy).approval.people
    if people == 1:
        return True
    inbox = Inbox(catalog.engine)
    registered = [row.envelope for row in inbox.stewards()]
    allowed: set[str] = set()
    for row in Asked(catalog.engine).consortia():
        allowed |= allowed_keys(row.anchor, registered)
    steward = present_key(node, key)
    if steward.id not in allowed:
        raise SignatureError("This key is no steward's at this site; see wardgate-node steward.")
    now = datetime.now(UTC)
    envelope = decide(steward, what, digest, (None, None), now)
    record(node, "steward-decided", what=what, subject=digest, verdict="approve", key=steward.id)
    inbox.add_decision(digest, steward.id, envelope, now)
    found = verdict(inbox.decisions(digest), allowed, what, digest, (None, None), people)
    if found is None or found.refusal is not None:
        typer.echo(f"Signed; {people} stewards are needed before {what} {digest[:16]} is let in.")
        return False
    return True
