"""The ``wardgate-node`` command.

Only the module of the command that is asked for is imported: a node has many commands, and some are
run over and over.
"""

from __future__ import annotations

import sys
from importlib import import_module

import typer

from foundation import commands

_HELP = "Run a hospital's Wardgate node: keep data here, answer through a gate."
_COMMANDS = {
    "join": "consortium",
    "serve": "consortium",
    "ingest": "ingest",
    "watch": "watch",
    "separate": "account",
}
"""Single commands, by name: the module with a function of that name."""
_GROUPS = {
    "console": "console",
    "consortium": "consortium",
    "roster": "documents:roster",
    "project": "documents:project",
    "pull": "pull",
    "receive": "receive",
    "quarantine": "quarantine",
    "catalogue": "catalogue",
    "group": "group",
    "consent": "consent",
    "release": "release",
    "report": "report",
    "recipe": "recipe",
    "policy": "policy",
    "ledger": "ledger",
    "job": "jobs",
    "mapping": "mapping",
    "deid": "deid",
    "key": "key",
}
"""Groups of commands, by name: the module with their application (``app`` unless it is named)."""


def application(asked: str = "") -> typer.Typer:
    """Return the command with all that is below it, or with only what is ``asked`` for."""
    app = commands.application(_HELP)
    app.callback()(_node)
    known = asked in _COMMANDS or asked in _GROUPS
    for name, module in _COMMANDS.items():
        if not known or name == asked:
            app.command(name)(getattr(import_module(f"node.commands.{module}"), name))
    for name, place in _GROUPS.items():
        if not known or name == asked:
            module, _, attribute = place.partition(":")
            group = getattr(import_module(f"node.commands.{module}"), attribute or "app")
            app.add_typer(group, name=name)
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
    commands.run(application(sys.argv[1] if len(sys.argv) > 1 else ""), "wardgate-node")
