"""``ledger``: check the record, and read what left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from contract.errors import NotFound
from foundation import commands
from node.commands.options import DEFAULT_HOME, HomeOption, existing_home
from node.gate.ledger import read_entries
from node.gate.ledger import verify as verify_ledger
from node.gate.summary import summarise

app = commands.application("The ledger: every decision, and every byte that left.")


@app.command("verify")
def verify(home: HomeOption = DEFAULT_HOME) -> None:
    """Check the whole chain and every kept payload; exit code 12 when anything was changed.

    Example: wardgate-node ledger verify
    """
    head = verify_ledger(existing_home(home).ledger)
    print(f"verified {head.sequence + 1} entries; head {head.hash}")


@app.command("show")
def show(
    job: Annotated[
        str | None, typer.Option("--job", help="Only entries of this job (digest or its start).")
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
    """
    entries = [
        entry
        for entry in read_entries(existing_home(home).ledger)
        if job is None or str(entry.body.get("job", "")).startswith(job)
    ]
    if job is not None and not entries:
        raise NotFound(f"The ledger holds no entry of a job that begins with {job!r}.")
    if as_json:
        for entry in entries:
            print(
                json.dumps(
                    {
                        "sequence": entry.sequence,
                        "time": entry.time,
                        "kind": entry.kind,
                        "hash": entry.hash,
                        **entry.body,
                    }
                )
            )
        return
    table = Table("no.", "time", "kind", "what", "bytes", "rules")
    for entry in entries:
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


def _what(body: Mapping[str, Any]) -> str:
    job = str(body.get("job", ""))[:12]
    parts = [
        str(body[key])
        for key in ("what", "work", "project", "researcher", "code", "task")
        if body.get(key)
    ]
    return " ".join([*([job] if job else []), *parts])
