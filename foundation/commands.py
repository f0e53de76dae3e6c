"""How a command ends: one clear line on standard error and a documented exit code."""

from __future__ import annotations

import errno
import inspect
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click
import typer
from click.core import ParameterSource
from typer.core import TyperArgument, TyperGroup, TyperOption

from contract.errors import StorageError, UsageError, WardgateError

INTERRUPTED = 130
LONGEST_CHOICES = 16
"""Characters of an option's choices that still stand in its column."""


class _Commands(TyperGroup):
    """Commands whose help is laid out by the terminal's width, not by its lines in the source."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in (self, *self.commands.values()):
            command.help = _help(command)
            command.params.sort(key=lambda parameter: parameter.name == "home")  # it comes last
            for option in command.params:
                if isinstance(option, TyperOption | TyperArgument) and option.help:
                    option.help = _literal(option.help)
                _shorten(option)


def _help(command: click.Command) -> str:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return _literal("\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs))


def _literal(text: str) -> str:
    """Return a help in which ``[receive]``, a table of the settings' file, is no markup."""
    return re.sub(r"(?<!\\)\[(?=[a-z])", r"\\[", text)


def _shorten(option: click.Parameter) -> None:
    """Keep the column of values narrow: what a value means needs the room on 80 columns."""
    if option.metavar is not None or not isinstance(option, TyperOption):
        return
    if isinstance(option.type, click.IntRange | click.FloatRange):
        option.metavar = "X"  # typer writes the range behind it
    elif isinstance(option.type, click.Choice):
        choices = [str(getattr(choice, "value", choice)) for choice in option.type.choices]
        if len("|".join(choices)) > LONGEST_CHOICES:
            option.metavar = "CHOICE"
            option.help = f"{', '.join(choices[:-1])} or {choices[-1]}. {option.help or ''}".strip()


def application(help_text: str) -> typer.Typer:
    """Return a Typer application with the project's conventions."""
    return typer.Typer(
        cls=_Commands,
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def subcommand_named(context: typer.Context) -> bool:
    """Say whether a subcommand does the work; ``UsageError`` for a ``--home`` that it won't see."""
    if context.invoked_subcommand is None:
        return False
    if context.get_parameter_source("home") is ParameterSource.COMMANDLINE:
        raise UsageError(f"Give --home after '{context.invoked_subcommand}'.")
    return True


def _by_ctrl_c(error: BaseException) -> bool:
    return isinstance(error.__cause__ or error.__context__, KeyboardInterrupt)


def run(app: Callable[..., Any], program: str) -> NoReturn:
    """Run ``app`` and end the process. No traceback unless ``WARDGATE_TRACEBACK=1``.

    A traceback may quote data, so it is for a developer's own machine only.
    """
    if os.environ.get("WARDGATE_TRACEBACK") == "1":
        app()
        sys.exit(0)
    code = 0
    try:
        ended = app(standalone_mode=False)
        code = ended if isinstance(ended, int) else 0
    except click.exceptions.NoArgsIsHelpError:  # the help was printed
        sys.exit(UsageError.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = program if context is None else context.command_path
        message = error.format_message().rstrip(".")
        see = " See" if message.endswith("?") else "; see"
        _end(program, f"{message}{see} '{command} --help'.", UsageError.exit_code)
    except click.exceptions.Abort as stop:
        code = INTERRUPTED if _by_ctrl_c(stop) else UsageError.exit_code
        _end(program, "Nothing was confirmed." if code != INTERRUPTED else "interrupted", code)
    except KeyboardInterrupt:
        _end(program, "interrupted", INTERRUPTED)
    except WardgateError as error:
        _end(program, str(error), error.exit_code)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _end(program, "A disk is full; nothing was lost.", StorageError.exit_code)
        _end(program, f"{error.strerror or type(error).__name__}: {error.filename or ''}", 1)
    except Exception as error:
        _end(program, f"Unexpected {type(error).__name__} (WARDGATE_TRACEBACK=1 shows more).", 1)
    sys.exit(code)


def _end(program: str, message: str, code: int) -> NoReturn:
    from contract.documents import printable

    print(f"{program}: {printable(message, 500)}", file=sys.stderr)
    sys.exit(code)
