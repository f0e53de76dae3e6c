"""``ledger``: check the record, read what left, prove an entry, hand the record to an auditor."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from contract.errors import LedgerError, NotFound, UsageError
from foundation import commands
from node.commands import auditing
from node.commands.auditing import Counting, JsonOption, consortia, opened, told_of
from node.commands.consent import FileOption, hospital_numbers
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, existing_home, keyed
from node.gate.ledger import Entry, examine, read_entries
from node.gate.summary import summarise

if TYPE_CHECKING:
    from contract.heads import SignedHead

app = commands.application("The ledger: every decision, and every byte that left.")


@app.command("verify")
def verify(
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail also when the clock went back somewhere.")
    ] = False,
    as_json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Check the whole record: the chain, signed heads, every kept payload.

    Exit code 12 when anything was changed, removed, cut or turned back. deploy/verify_ledger.py
    checks the same without Wardgate.

    Example: wardgate-node ledger verify

    Example: wardgate-node ledger verify --strict --json
    """
    folder = existing_home(home).ledger
    with Counting("verified") as counting:
        found = examine(folder, counting)
    newest = {name: _newest_head(folder, name) for name in consortia(folder)}
    if as_json:
        print(
            json.dumps(
                {
                    "entries": found.entries,
                    "head": found.head.hash,
                    "root": found.root,
                    "payloads": found.payloads,
                    "purged": found.purged,
                    "heads": {name: told_of(head) for name, head in newest.items() if head},
                    "clock_went_back": [
                        {"entry": entry, "seconds": by.total_seconds()}
                        for entry, by in found.went_back
                    ],
                }
            )
        )
    else:
        print(f"verified {found.entries} entries; head {found.head.hash}")
        print(f"Merkle root {found.root}")
        print(f"{found.payloads} payloads are kept, {found.purged} were purged")
        for name, head in newest.items():
            if head is not None:
                by = ", ".join(sorted(head.countersigned)) or "nobody yet"
                time = f"{head.head.time:%Y-%m-%d %H:%M:%S}"
                print(f"{name}: {head.head.tree_size} entries signed at {time}, by {by} too")
        for entry, back in found.went_back[:10]:
            print(f"the clock went back at entry {entry}, by {back}")
        if len(found.went_back) > 10:
            print(f"and at {len(found.went_back) - 10} other entries")
    if strict and found.went_back:
        raise LedgerError(f"The ledger's clock went back at {len(found.went_back)} entries.")


@app.command("show")
def show(
    job: Annotated[
        str | None, typer.Option("--job", help="Only entries of this job (digest or its start).")
    ] = None,
    last: Annotated[
        int | None, typer.Option("--last", min=1, help="Only so many, the newest.")
    ] = None,
    payloads: Annotated[
        bool, typer.Option("--payloads", help="Print the kept payloads' sizes and digests too.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object for each entry.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show what was asked, decided and sent, oldest first.

    Example: wardgate-node ledger show --job 3f8a1c

    Example: wardgate-node ledger show --last 20 --json
    """
    entries: Iterable[Entry] = (
        entry
        for entry in read_entries(existing_home(home).ledger)
        if job is None or str(entry.body.get("job", "")).startswith(job)
    )
    if last is not None:
        entries = deque(entries, last)
    shown = 0
    time, what = Column("time", no_wrap=True), Column("what", overflow="fold")
    table = Table("no.", time, "kind", what, "bytes", "rules", pad_edge=False)
    for entry in entries:
        shown += 1
        if as_json:
            print(json.dumps(_as_object(entry)))
            continue
        table.add_row(
            str(entry.sequence),
            entry.time[:19].replace("T", " "),
            entry.kind,
            _what(entry.body),
            str(entry.body.get("bytes", "")),
            ", ".join(map(str, entry.body.get("rules", []))),
        )
        if payloads and entry.body.get("payload"):
            table.add_row("", "", "", f"payload {entry.body['payload']}", "", "")
    if job is not None and not shown:
        raise NotFound(f"The ledger holds no entry of a job that begins with {job!r}.")
    if not as_json:
        Console(markup=False).print(table)


@app.command("summary")
def summary(home: HomeOption = DEFAULT_HOME) -> None:
    """Sum up what left: by kind of work, how many payloads and bytes, under which rules.

    Example: wardgate-node ledger summary
    """
    table = Table("what", "project", "payloads", "bytes", "under the rules")
    for (kind, project), (count, size, rules) in summarise(
        read_entries(existing_home(home).ledger)
    ).items():
        table.add_row(kind, project, str(count), f"{size:,}", ", ".join(rules))
    Console(markup=False).print(table)


@app.command("subject")
def subject(
    pseudonym: Annotated[
        str | None, typer.Argument(help="The subject's pseudonym; without it, a number is asked.")
    ] = None,
    file: FileOption = None,
    as_json: JsonOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """List the jobs that used a patient: all that were let in over a release that holds them.

    Name the pseudonym. The hospital's own number is asked for, or read from --file: as an argument,
    others on the machine could see it.

    Example: wardgate-node ledger subject

    Example: wardgate-node ledger subject 5f0c… --json
    """
    from node.catalog.withdrawals import releases_holding
    from node.gate.ledger.usage import uses

    node = existing_home(home)
    if pseudonym is not None and file is not None:
        raise UsageError("Name a pseudonym or a file, not both.")
    numbers = [] if pseudonym is not None else hospital_numbers(file)
    if len(numbers) > 1:
        raise UsageError("Name one number.")
    with catalogue(node) as catalog:
        who = pseudonym or keyed(node).subject(numbers[0])
        with catalog.snapshot() as connection:
            holding = releases_holding(connection, who)
        names = {row.digest: row.name for row in catalog.list_releases()}
    found = uses(read_entries(node.ledger), holding)
    if as_json:
        releases = [{"release": digest, "name": names.get(digest, "")} for digest in holding]
        print(json.dumps({"releases": releases, "jobs": [asdict(use) for use in found]}))
        return
    for digest in holding:
        print(f"in release {names.get(digest, '')} ({digest[:16]})")
    if not holding:
        print("No release holds this subject, so no job used them.")
        return
    table = Table("job", "time", "work", "project", "researcher", "release", "answers", "bytes")
    for use in found:
        table.add_row(
            use.job[:12],
            use.time[:19].replace("T", " "),
            use.work,
            f"{use.consortium} {use.project}",
            use.researcher,
            use.release[:12],
            str(len(use.answers)),
            f"{use.bytes:,}",
        )
    Console(markup=False).print(table)


for _name, _command in (
    ("prove", auditing.prove),
    ("check-proof", auditing.check_proof),
    ("export", auditing.export),
):
    app.command(_name)(_command)


@app.command("purge")
def purge(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many; delete nothing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Delete kept payloads that are older than the policy keeps them. The record says so first.

    The node does so once a day while it serves. Entries stay for ever.

    Example: wardgate-node ledger purge --dry-run
    """
    from node.gate.policy import load_policy

    node = existing_home(home)
    ledger, now = opened(node), datetime.now(UTC)
    days = load_policy(node.policy).ledger.keep_payload_days
    older_than = now - timedelta(days=days)
    if dry_run:
        print(f"{len(ledger.purgeable(older_than))} payloads are older than {days} days")
    else:
        print(f"purged {ledger.purge(older_than, now)} payloads older than {days} days")


def _newest_head(ledger: Path, consortium: str) -> SignedHead | None:
    """Return the newest head that carries most countersignatures, by the roster kept with it."""
    from contract.documents import Roster
    from contract.envelope import Envelope
    from contract.errors import SignatureError
    from contract.heads import SignedHead
    from node.gate.ledger.heads import HeadStore

    store = HeadStore(ledger, consortium)
    roster = Roster.read(Envelope.parse(store.roster()).body)
    newest = None
    for envelope in store.own():
        try:
            signed = SignedHead.verify(envelope, roster)
        except SignatureError:
            continue  # of a former key of ours
        if newest is None or signed.countersigned or not newest.countersigned:
            newest = signed
    return newest


def _as_object(entry: Entry) -> dict[str, Any]:
    return {
        "sequence": entry.sequence,
        "time": entry.time,
        "kind": entry.kind,
        "hash": entry.hash,
        **entry.body,
    }


def _what(body: Mapping[str, Any]) -> str:
    job = str(body.get("job", ""))[:12]
    parts = [
        str(body[key])
        for key in ("what", "work", "project", "researcher", "code", "task", "site")
        if body.get(key)
    ]
    return " ".join([*([job] if job else []), *parts])
