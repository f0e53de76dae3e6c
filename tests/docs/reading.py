"""The project's documents as the tests read them: files, fenced blocks, links, tables, commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import typer

from coordinator.cli import app as coordinator_app
from node.cli import app as node_app
from researcher.cli import app as researcher_app

ROOT = Path(__file__).resolve().parents[2]
COMMANDS: dict[str, click.Command] = {
    "wardgate-node": typer.main.get_command(node_app),
    "wardgate-coordinator": typer.main.get_command(coordinator_app),
    "wardgate": typer.main.get_command(researcher_app),
}
FOLDERS = ("docs", "recipes", "deploy", "demo", "bench", "configs", "tests")
SHELLS = ("sh", "bash", "shell", "console")


def documents() -> list[Path]:
    """Return every Markdown file of the repository."""
    found = [*ROOT.glob("*.md")]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*.md")
    return sorted(found)


@dataclass(frozen=True)
class Fence:
    """A fenced block: its language and its lines."""

    language: str
    lines: list[str]


def fences(text: str) -> list[Fence]:
    """Return the fenced blocks of a document."""
    found = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Fence(language.strip(), body.splitlines()) for language, body in found]


def prose(text: str) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def links(text: str) -> list[str]:
    """Return the targets of a document's links and images."""
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(text)))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives a document's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in kept}


def code_spans(text: str) -> list[str]:
    """Return what stands between backticks in a document's prose, on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(text))]


def table_below(text: str, heading: str) -> list[list[str]]:
    """Return the cells, without backticks, of the first table after a line."""
    after = text[text.index(heading) :].splitlines()
    rows: list[list[str]] = []
    for line in after[1:]:
        if line.startswith("|"):
            cells = [c.strip() for c in line.strip()[1:-1].split("|")]
            rows.append([cell.strip("`") for cell in cells])
        elif rows:
            break
    return rows[2:]


def shell_lines(text: str) -> Iterator[str]:
    """Yield the command lines of a document's shell blocks, joined over backslashes.

    In a ``console`` block they begin with ``$ ``; the other lines there are output.
    """
    for fence in fences(text):
        if fence.language not in SHELLS:
            continue
        lines = fence.lines
        if fence.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        yield from "\n".join(lines).replace("\\\n", " ").splitlines()


def our_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every command of ours in a document's shell blocks."""
    for line in shell_lines(text):
        for part in re.split(r"\s*(?:&&|\|\||;|\|)\s*", line):
            words = shlex.split(part, comments=True)
            while words and re.match(r"^[A-Z_]+=", words[0]):
                words.pop(0)
            if words and Path(words[0]).name in COMMANDS:
                yield [Path(words[0]).name, *words[1:]]


def find(words: Sequence[str]) -> tuple[click.Command, list[str]]:
    """Return the command that words name, and the words after it; ``KeyError`` without one."""
    command = COMMANDS[words[0]]
    rest = list(words[1:])
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        command = command.commands[rest.pop(0)]
    return command, rest


def complaint(words: Sequence[str]) -> str:
    """Return why click would not take a command line, or an empty string. Runs nothing."""
    try:
        command, rest = find(words)
    except KeyError as error:
        return f"there is no command {error}"
    if "--help" in rest:
        return ""
    context = click.Context(command, info_name=words[0], resilient_parsing=False)
    try:
        values, left, _ = command.make_parser(context).parse_args(rest)
    except click.UsageError as error:
        return error.format_message()
    if left:
        return f"unexpected {left}"
    missing = [p.name for p in command.params if p.required and not _given(values, p.name)]
    return f"without {missing}" if missing else ""


def _given(values: Mapping[str, object], name: str | None) -> bool:
    value = values.get(name or "")
    return value not in (None, (), []) and not repr(value).endswith("UNSET")
