"""What of the ledger goes to others: proofs of single entries, and copies for an auditor."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contract.errors import LedgerError, NotFound
from foundation.files import read_bounded, write_new
from node.commands.options import DEFAULT_HOME, HomeOption, existing_home
from node.gate.ledger import Entry, Ledger
from node.home import NodeHome

if TYPE_CHECKING:
    from contract.heads import SignedHead

JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]


def prove(
    entry: Annotated[int, typer.Argument(min=0, help="The entry's number, as `show` prints it.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    consortium: Annotated[
        str | None, typer.Option("--consortium", help="Whose heads; else the entry's own.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Write the proof that an entry is on the record: its line, the path to a signed head, the head
    with the other sites' countersignatures.

    The proof holds that one entry and nothing of the others. `check-proof` or
    deploy/verify_ledger.py checks it.

    Example: wardgate-node ledger prove 1041 --output entry-1041.json
    """
    from node.gate.ledger.heads import HeadStore
    from node.gate.ledger.proofs import prove as prove_entry

    node = existing_home(home)
    ledger = opened(node)
    name = consortium or _consortium_of(ledger.entry(entry), node.ledger)
    if name not in consortia(node.ledger):
        raise NotFound(f"No head of the ledger was signed in consortium {name} yet.")
    bundle = prove_entry(ledger, HeadStore(node.ledger, name), entry)
    write_new(out, bundle.to_bytes())
    signatures = len(bundle.head.signatures) - 1
    print(f"wrote {out}: entry {entry}, under a head with {signatures} countersignatures")


def check_proof(
    path: Annotated[Path, typer.Argument(help="What `prove` wrote, here or at another site.")],
    roster_digest: Annotated[
        str | None, typer.Option("--roster-digest", help="The roster's SHA-256 that you know.")
    ] = None,
    receipt: Annotated[
        Path | None, typer.Option("--receipt", help="A receipt that must be of this entry.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a proof. Compare the roster's digest that is printed with one that you know.

    With a receipt, as a researcher has it, also that this entry is the one which it names.

    Example: wardgate-node ledger check-proof entry-1041.json

    Example: wardgate-node ledger check-proof entry-1041.json --receipt receipt.json
    """
    from contract.envelope import MAX_ENVELOPE_BYTES
    from node.gate.ledger.proofs import MAX_BUNDLE_BYTES, check

    proved = check(read_bounded(path, MAX_BUNDLE_BYTES))
    if roster_digest is not None and roster_digest != proved.roster_digest:
        raise LedgerError(
            f"The proof's roster is {proved.roster_digest}, not the one that you know."
        )
    if receipt is not None:
        proved.check_receipt(read_bounded(receipt, MAX_ENVELOPE_BYTES))
    told = told_of(proved.head)
    if as_json:
        print(json.dumps({"entry": proved.entry, "head": told, "roster": proved.roster_digest}))
        return
    by = ", ".join(told["countersigned"]) or "nobody"
    print(f"roster version {proved.roster.version}, digest {proved.roster_digest}")
    print(
        f"head of {told['site']}: {told['entries']} entries, {told['time']}, countersigned by {by}"
    )
    print(f"proved: entry {proved.entry['sequence']} of {proved.entry.get('time')}")
    print(json.dumps(proved.entry))


def export(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    payloads: Annotated[
        bool,
        typer.Option("--payloads", help="Also copy the kept payloads: the answers themselves."),
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Copy the record for an auditor: entries, signed heads, rosters.

    deploy/verify_ledger.py checks the copy (with --no-payloads if they are not in it).

    Example: wardgate-node ledger export /media/stick/ledger-2026
    """
    from node.gate.ledger.export import export as export_ledger

    ledger = opened(existing_home(home))
    with Counting("exported") as counting:
        size = export_ledger(ledger, folder, payloads=payloads, progress=counting)
    print(f"exported {size} entries to {folder}")


def opened(node: NodeHome) -> Ledger:
    """Open the ledger as the node's own user, whose it is."""
    from node.config import load_settings
    from node.intake.account import become_node

    become_node(node, load_settings(node).account)
    return Ledger(node.ledger)


def consortia(ledger: Path) -> list[str]:
    """Return the consortia in which heads were signed."""
    return sorted({path.parent.parent.name for path in (ledger / "heads").glob("*/own/*.json")})


def _consortium_of(entry: Entry, ledger: Path) -> str:
    """Return the consortium that an entry is about, or else the only one."""
    known = consortia(ledger)
    named = str(entry.body.get("consortium", ""))
    if named in known:
        return named
    if not known:
        raise NotFound("No head of the ledger was signed yet: the node signs them while it serves.")
    return known[0]


def told_of(signed: SignedHead) -> dict[str, Any]:
    head = signed.head
    return {
        "consortium": head.consortium,
        "site": head.site,
        "entries": head.tree_size,
        "root": head.root_hash,
        "time": head.time.isoformat(),
        "countersigned": sorted(signed.countersigned),
    }


class Counting:
    """A line on standard error, for a person who watches: how many entries are through."""

    def __init__(self, word: str) -> None:
        self._word = word
        self._shown = False

    def __call__(self, entries: int) -> None:
        if entries and sys.stderr.isatty():
            self._shown = True
            sys.stderr.write(f"\r\x1b[K{self._word} {entries:,} entries")
            sys.stderr.flush()

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
