"""How commands explain themselves on a narrow terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def help_of(*command: str, program: str = "wardgate-node") -> list[str]:
    """Return a command's help on a terminal of 80 columns."""
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *command, "--help"],
        env={**os.environ, "COLUMNS": "80", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.rstrip() for line in done.stdout.splitlines()]


def test_a_paragraph_of_help_flows_and_keeps_names_in_brackets() -> None:
    lines = help_of("watch")
    assert " A file is taken in when it has stayed the same for a while ([intake]" in lines
    assert " settle_seconds) and nobody has it open for writing. The manifest is read anew" in lines
    assert all(len(line) <= 80 for line in lines)
    said = " Who may send is in [receive]. Nothing is acknowledged before it is durable."
    assert said in help_of("receive")


def test_what_options_mean_has_the_room_of_a_narrow_terminal() -> None:
    lines = help_of("analyse", program="wardgate")
    assert all(len(line) <= 80 for line in lines)
    assert not any("…" in line for line in lines), "a default is cut"
    row = next(line.split() for line in lines if "--alternative  " in line)
    assert row[2:6] == ["CHOICE", "two-sided,", "less", "or"]
    row = next(line.split() for line in lines if "--minimum-sites  " in line)
    assert row[2:5] == ["X", "[x>=1]", "Fewest"]
    assert "median [quartiles];" in " ".join(" ".join(lines).replace("│", " ").split())


@pytest.mark.parametrize(("keys", "expected"), [("n\n", 2), ("", 2), ("\x03", 130)])
def test_a_question_that_is_not_answered_with_yes_ends_with_its_own_code(
    keys: str, expected: int
) -> None:
    program = """
import os, signal, typer
from foundation.commands import application, run
app = application("Ask.")
@app.command()
def ask() -> None:
    if KEYS == chr(3):
        signal.raise_signal(signal.SIGINT)
    from contract.errors import UsageError
    if not typer.confirm("Sign it?"):
        raise UsageError("Not signed.")
run(app, "asker")
"""
    code = program.replace("KEYS", repr(keys))
    given = "" if expected == 130 else keys
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == expected, done.stderr
    assert "Usage" not in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("inbox --home x list", "Give --home after 'list'."),
        (
            "inbox show --code",
            "Missing argument 'NUMBER'; see 'wardgate-node inbox show --help'.",
        ),
    ],
)
def test_what_does_not_fit_together_is_said_in_one_line(command: str, said: str) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("wardgate-node"), *command.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, f"wardgate-node: {said}\n")
