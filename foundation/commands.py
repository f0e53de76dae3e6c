"""How a command ends: one clear line on standard error and a documented exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from contract.documents import printable
from contract.errors import StorageError, WardgateError

INTERRUPTED = 130


def application(help_text: str) -> typer.Typer:
    """Return a Typer application with the project's conventions."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def run(app: Callable[[], Any], program: str) -> NoReturn:
    """Run ``app`` and end the process. No traceback unless ``WARDGATE_TRACEBACK=1``.

    A traceback may quote data, so it is for a developer's own machine only.
    """
    if os.environ.get("WARDGATE_TRACEBACK") == "1":
        app()
        sys.exit(0)
    try:
        app()
    except SystemExit:
        raise
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
    sys.exit(0)


def _end(program: str, message: str, code: int) -> NoReturn:
    print(f"{program}: {printable(message, 500)}", file=sys.stderr)
    sys.exit(code)
