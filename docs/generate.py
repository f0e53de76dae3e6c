"""Write the generated reference: commands, rules, job states, the wire.

``docs/generate.py`` writes ``build/docs/reference``; ``--check`` says whether what is there is up
to date, and ends with 1 when it isn't. Nothing here is kept in the repository.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import typer

from coordinator.cli import app as coordinator_app
from coordinator.jobs.states import DECIDED, ENDED, JOB_TRANSITIONS, JobState, SiteState
from node.cli import app as node_app
from node.gate.before_egress import BEFORE_EGRESS
from node.gate.before_work import BEFORE_WORK
from researcher.cli import app as researcher_app

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "build" / "docs" / "reference"
COMMANDS = {
    "wardgate-node": node_app,
    "wardgate-coordinator": coordinator_app,
    "wardgate": researcher_app,
}
_MESSAGE = re.compile(r"^message (\w+) \{(?:([^\n]*)\}$|\n(.*?)^\}$)", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s+(repeated )?(\w+) (\w+) = (\d+);[ ]*(?:// (.*))?$", re.MULTILINE)
_CALL = re.compile(r"^\s+rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\);", re.MULTILINE)


def pages() -> dict[str, str]:
    """Return every page by its file's name."""
    return {
        "cli.md": cli(),
        "rules.md": rules(),
        "job-states.md": job_states(),
        "wire.md": wire(),
    }


# ---- commands ------------------------------------------------------------------------------------


def click_command(program: str) -> click.Command:
    """Return a program's command, as click sees it."""
    command: click.Command = typer.main.get_command(COMMANDS[program])
    return command


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all below it, with their full names."""
    yield name, command
    if isinstance(command, click.Group):
        for child, below in sorted(command.commands.items()):
            yield from commands(f"{name} {child}", below)


def cli() -> str:
    """Return the page of all commands."""
    lines = ["# Commands", "", "Each command also says this with `--help`.", ""]
    for program in COMMANDS:
        for name, command in commands(program, click_command(program)):
            lines += _command(name, command)
    return "\n".join(lines).rstrip() + "\n"


def _command(name: str, command: click.Command) -> list[str]:
    lines = [f"{'#' * min(4, 2 + name.count(' '))} {name}", ""]
    text = inspect.cleandoc(command.help or "")
    examples = re.findall(r"^Example: (.*)$", text, re.MULTILINE)
    lines += [re.sub(r"^Example: .*$", "", text, flags=re.MULTILINE).strip(), ""]
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    rows = [_argument(a) for a in arguments] + [_option(o) for o in options]
    if rows:
        lines += table(["argument or option", "type", "default", "meaning"], rows)
    if examples:
        lines += ["```sh", *examples, "```", ""]
    return lines


def _argument(argument: click.Argument) -> list[str]:
    name = (argument.metavar or argument.human_readable_name).upper()
    needed = "required" if argument.required else "none"
    return [f"`{name}`", _type(argument), needed, getattr(argument, "help", None) or ""]


def _option(option: click.Option) -> list[str]:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    default = "required" if option.required else _default(option)
    meaning = option.help or ""
    if option.envvar:
        meaning += f" Environment: `{option.envvar}`."
    return [names, "flag" if option.is_flag else _type(option), default, meaning.strip()]


def _type(parameter: click.Parameter) -> str:
    kind = parameter.type.name
    return f"{kind}, repeatable" if parameter.multiple or parameter.nargs == -1 else kind


def _default(option: click.Option) -> str:
    value = option.default
    if value in (None, False, (), []) or repr(value).endswith("UNSET"):
        return ""
    return f"`{value}`"


# ---- the gate ------------------------------------------------------------------------------------


def rules() -> str:
    """Return the page of the gate's two tables, in the order in which they run."""
    lines = ["# Rules of the gate", ""]
    lines += ["Rules run in this order; the first that objects decides.", ""]
    for title, found in (("Before work", BEFORE_WORK), ("Before egress", BEFORE_EGRESS)):
        lines += [f"## {title}", ""]
        for rule in found:
            text = inspect.cleandoc(type(rule).__doc__ or "").replace("``", "`")
            lines += [f"### {type(rule).__name__}", "", f"Code: `{rule.code}`", "", text, ""]
    return "\n".join(lines).rstrip() + "\n"


# ---- jobs ----------------------------------------------------------------------------------------


def job_states() -> str:
    """Return the page of a job's transitions and a site's states."""
    rows = [[f"`{s}`", f"`{e}`", f"`{after}`"] for (s, e), after in JOB_TRANSITIONS.items()]
    lines = ["# Job states", "", "What isn't in the table can't happen.", ""]
    lines += table(["state", "event", "state after"], rows)
    lines += [f"A job has ended when it is {_names(s for s in JobState if s in ENDED)}.", ""]
    lines += [f"A site in a job is {_names(SiteState)}.", ""]
    lines += [f"It has decided when it is {_names(s for s in SiteState if s in DECIDED)}."]
    return "\n".join(lines).rstrip() + "\n"


def _names(states: Iterable[str]) -> str:
    return ", ".join(f"`{state}`" for state in states)


# ---- the wire ------------------------------------------------------------------------------------


def wire() -> str:
    """Return the page of the calls and messages of ``contract/wire.proto``."""
    text = (ROOT / "contract" / "wire.proto").read_text()
    lines = ["# The wire", "", "From `contract/wire.proto`, package `wardgate.v1`.", ""]
    calls = [
        [f"`{name}`", f"{asked}`{request}`", f"{answered}`{reply}`"]
        for name, asked, request, answered, reply in _CALL.findall(text)
    ]
    lines += ["## Calls", "", *table(["call", "request", "reply"], calls), "## Messages", ""]
    for name, short, long in _MESSAGE.findall(text):
        fields = [
            [number, f"`{field}`", f"{repeated}`{kind}`", comment]
            for repeated, kind, field, number, comment in _FIELD.findall(long or short)
        ]
        lines += [f"### {name}", ""]
        lines += table(["no.", "field", "type", "meaning"], fields) if fields else ["Empty.", ""]
    return "\n".join(lines).rstrip() + "\n"


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Return a Markdown table and a blank line."""
    body = [" | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows]
    return [
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(f"| {row} |" for row in body),
        "",
    ]


def main() -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when out of date")
    parser.add_argument("--target", type=Path, default=TARGET, help="the folder of the pages")
    chosen = parser.parse_args()
    target: Path = chosen.target
    found = pages()
    if chosen.check:
        old = [n for n, t in found.items() if not _is(target / n, t)]
        if old:
            print(f"out of date: {', '.join(old)}; run docs/generate.py", file=sys.stderr)
        return 1 if old else 0
    target.mkdir(parents=True, exist_ok=True)
    for name, text in found.items():
        (target / name).write_text(text)
        print(target / name)
    return 0


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
