"""``sandbox``: whether recipes can run confined on this machine, and what stands in the way."""

from __future__ import annotations

from contract.errors import SandboxError
from foundation import commands

app = commands.application("The sandbox that recipes run in.")


@app.callback()
def _sandbox() -> None:
    pass


@app.command("check")
def check() -> None:
    """Try the sandbox as this user and print each property, proved from inside.

    Run it as the user that serves. A property that doesn't hold ends it with exit code 13, but for
    the common bounds on memory and processes: they need a cgroup that systemd gives the node's
    unit, and not your terminal.

    Example: sudo -u wardgate-node wardgate-node sandbox check
    """
    from rich.console import Console
    from rich.table import Table

    from foundation import isolation

    found = isolation.examine()
    table = Table("", "property", "what is wrong", title="sandbox")
    for one in found:
        mark = "yes" if one.holds else "NO" if one.required else "no"
        table.add_row(mark, one.name, one.wrong)
    Console(markup=False).print(table)
    if error := isolation.refusal(found):
        raise SandboxError(error)
    missing = [one.name for one in found if not one.holds]
    print(f"the sandbox holds; not so: {', '.join(missing)}" if missing else "the sandbox holds")
