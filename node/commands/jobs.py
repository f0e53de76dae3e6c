"""``job``: what this node was asked."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from foundation import commands
from node.catalog.asked import Asked
from node.commands.options import DEFAULT_HOME, HomeOption, catalogue, node_home

app = commands.application("Jobs that were asked of this node.")


@app.command("list")
def list_jobs(home: HomeOption = DEFAULT_HOME) -> None:
    """List the newest jobs and what became of them here.

    Example: wardgate-node job list
    """
    table = Table("job", "kind", "project", "researcher", "state", "received")
    with catalogue(node_home(home)) as catalog:
        for row in Asked(catalog.engine).newest_jobs():
            table.add_row(
                row.digest[:12],
                row.kind,
                row.project,
                row.researcher,
                f"{row.state} {row.code}".strip(),
                f"{row.received_at:%F %H:%M:%S}",
            )
    Console(markup=False).print(table)
