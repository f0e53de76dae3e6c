"""The ``wardgate-node`` command.

Only the module of the command that is asked for is imported: a node has many commands, and some are
run over and over.
"""

from __future__ import annotations

import resource
import sys
from importlib import import_module

import typer

from foundation import commands

_HELP = "Run a hospital's Wardgate node: keep data here, answer through a gate."
_DATA, _HELD, _NODE, _GATE = "Take data in", "What is held", "The node", "The gate"
_COMMANDS = {
    "ingest": ("ingest", _DATA),
    "schema": ("schema", _DATA),
    "watch": ("watch", _DATA),
    "join": ("consortium", _NODE),
    "serve": ("consortium", _NODE),
    "separate": ("account", _NODE),
}
"""Single commands, by name: the module with a function of that name, and where help lists it."""
_GROUPS = {
    "receive": ("receive", _DATA),
    "pull": ("pull", _DATA),
    "quarantine": ("quarantine", _DATA),
    "report": ("report", _DATA),
    "deid": ("deid", _DATA),
    "key": ("key", _DATA),
    "catalogue": ("catalogue", _HELD),
    "mapping": ("mapping", _HELD),
    "group": ("group", _HELD),
    "consent": ("consent", _HELD),
    "release": ("release", _HELD),
    "consortium": ("consortium", _NODE),
    "roster": ("documents:roster", _NODE),
    "console": ("console", _NODE),
    "sandbox": ("sandbox", _NODE),
    "project": ("documents:project", _GATE),
    "recipe": ("recipe", _GATE),
    "weights": ("weights", _GATE),
    "drafts": ("drafts", _HELD),
    "model": ("model", _GATE),
    "inbox": ("inbox", _GATE),
    "steward": ("steward", _GATE),
    "policy": ("policy", _GATE),
    "privacy": ("privacy", _GATE),
    "job": ("jobs", _GATE),
    "ledger": ("ledger", _GATE),
}
"""Groups of commands, by name: the module with their application (``app`` unless it is named), and
where help lists it."""


def application(asked: str = "") -> typer.Typer:
    """Return the command with all that is below it, or with only what is ``asked`` for."""
    app = commands.application(_HELP)
    app.callback()(_node)
    known = asked in _COMMANDS or asked in _GROUPS
    for name, (module, panel) in _COMMANDS.items():
        if not known or name == asked:
            command = getattr(import_module(f"node.commands.{module}"), name)
            app.command(name, rich_help_panel=panel)(command)
    for name, (place, panel) in _GROUPS.items():
        if not known or name == asked:
            module, _, attribute = place.partition(":")
            group = getattr(import_module(f"node.commands.{module}"), attribute or "app")
            app.add_typer(group, name=name, rich_help_panel=panel)
    return app


def _node() -> None:
    pass


_node.__doc__ = _HELP


def __getattr__(name: str) -> typer.Typer:
    """Make ``app``, the command with everything, for whoever documents it."""
    if name == "app":
        return application()
    raise AttributeError(name)


def main() -> None:
    """Run the command; errors end it with one line and their exit code."""
    # Whatever a decoder does to a process of ours, no picture of its memory is left on a disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    commands.run(application(sys.argv[1] if len(sys.argv) > 1 else ""), "wardgate-node")
