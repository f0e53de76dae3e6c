"""``job``: what was asked, by whom, and how far it is."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from contract.errors import NotFound
from coordinator.commands.options import DEFAULT_HOME, HomeOption, open_coordinator
from coordinator.jobs.store import JobRow, JobStore
from foundation import commands

app = commands.application("Jobs.")


@app.command("list")
def list_jobs(home: HomeOption = DEFAULT_HOME) -> None:
    """List the newest jobs.

    Example: wardgate-coordinator job list
    """
    columns = ("job", "kind", "project", "researcher", "state", "submitted")
    table = Table(*columns, pad_edge=False)  # a line of it has 80 columns
    for row in JobStore(open_coordinator(home).engine).newest():
        table.add_row(
            row.digest[:12],
            row.kind,
            row.project,
            row.researcher,
            row.state,
            f"{row.submitted_at:%F %H:%M}",
        )
    Console(markup=False).print(table)


@app.command("show")
def show_job(
    job: Annotated[str, typer.Argument(help="The job's digest, or its first digits.")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Show one job: where it is at each site, and its events.

    Example: wardgate-coordinator job show 3f8a1c
    """
    store = JobStore(open_coordinator(home).engine)
    row = _find(store, job)
    print(
        f"{row.digest}\n{row.kind} of {row.researcher} in {row.project}: {row.state} {row.reason}"
    )
    table = Table("site", "state", "why")
    for site in store.sites(row.digest):
        table.add_row(site.site, site.state, site.sentence)
    Console(markup=False).print(table)


def _find(store: JobStore, prefix: str) -> JobRow:
    found = [row for row in store.newest(10_000) if row.digest.startswith(prefix)]
    if len(found) != 1:
        raise NotFound(f"{len(found)} jobs begin with {prefix!r}.")
    return found[0]
