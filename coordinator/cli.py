"""The ``wardgate-coordinator`` command."""

from __future__ import annotations

from coordinator.commands import authority, console, documents, jobs, members, setup
from foundation import commands

app = commands.application(
    "Run a Wardgate coordinator: invite sites, carry documents, launch jobs."
)
app.command("init")(setup.init)
app.command("invite")(setup.invite)
app.command("serve")(setup.serve)
app.add_typer(authority.app, name="authority")
app.add_typer(members.sites, name="site")
app.add_typer(members.researchers, name="researcher")
app.add_typer(documents.roster, name="roster")
app.add_typer(documents.project, name="project")
app.add_typer(jobs.app, name="job")
app.add_typer(console.app, name="console")


def main() -> None:
    """Run the command; errors end it with one line and their exit code."""
    commands.run(app, "wardgate-coordinator")
