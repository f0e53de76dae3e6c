"""Commands run within the test's process: starting one takes longer than most of what they do."""

from __future__ import annotations

from dataclasses import dataclass

import typer
from typer.testing import CliRunner

from contract.errors import WardgateError


@dataclass(frozen=True)
class Done:
    """What a command said, and the code that it ends with."""

    returncode: int
    stdout: str
    stderr: str


def invoke(app: typer.Typer, *arguments: object) -> Done:
    """Run a command of ``app`` as ``foundation.commands.run`` would."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    error = result.exception
    if isinstance(error, WardgateError):
        said = f"{result.stderr}wardgate-node: {error}\n"
        return Done(error.exit_code, result.stdout, said)
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return Done(result.exit_code, result.stdout, result.stderr)
