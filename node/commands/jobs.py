"""``job``: what this node was asked."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table

from foundation import commands
from node.catalog.asked import Asked
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home

app = commands.application("Jobs that were asked of this node.")


@app.command("list")
def list_jobs(home: HomeOption = DEFAULT_HOME) -> None:
    """List the newest jobs and what became of them here.

    Example: wardgate-node job list
    """
    job, kind, received = (Column(name, no_wrap=True) for name in ("job", "kind", "received"))
    others = (Column(name, overflow="fold") for name in ("project", "asked by", "state"))
    table = Table(job, kind, *others, received, pad_edge=False)
    with catalogue(node_home(home)) as catalog:
        for row in Asked(catalog.engine).newest_jobs():
            table.add_row(
                row.digest[:12],
                row.kind,
                row.project,
                row.researcher,
                f"{row.state} {row.code}".strip(),
                f"{row.received_at:%F %H:%M}",
            )
    Console(markup=False).print(table)
