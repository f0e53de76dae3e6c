"""The ``wardgate-node`` command."""

from __future__ import annotations

from foundation import commands
from node.commands import (
    account,
    catalogue,
    consent,
    console,
    consortium,
    deid,
    documents,
    group,
    ingest,
    jobs,
    ledger,
    mapping,
    policy,
    pull,
    quarantine,
    receive,
    recipe,
    release,
    report,
    watch,
)

app = commands.application("Run a hospital's Wardgate node: keep data here, answer through a gate.")
app.command("join")(consortium.join)
app.command("serve")(consortium.serve)
app.command("ingest")(ingest.ingest)
app.command("watch")(watch.watch)
app.command("separate")(account.separate)
app.add_typer(console.app, name="console")
app.add_typer(consortium.app, name="consortium")
app.add_typer(documents.roster, name="roster")
app.add_typer(documents.project, name="project")
app.add_typer(pull.app, name="pull")
app.add_typer(receive.app, name="receive")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(catalogue.app, name="catalogue")
app.add_typer(group.app, name="group")
app.add_typer(consent.app, name="consent")
app.add_typer(release.app, name="release")
app.add_typer(report.app, name="report")
app.add_typer(recipe.app, name="recipe")
app.add_typer(policy.app, name="policy")
app.add_typer(ledger.app, name="ledger")
app.add_typer(jobs.app, name="job")
app.add_typer(mapping.app, name="mapping")
app.add_typer(deid.app, name="deid")


def main() -> None:
    """Run the command; errors end it with one line and their exit code."""
    commands.run(app, "wardgate-node")
