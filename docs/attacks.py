"""Write the table of attacks in ``docs/threat-model.md`` from the tests that make them.

Each module of ``tests/attacks`` has ``ATTACKS``: tuples of the attack, its source, the defence and
the test that makes it. ``docs/attacks.py`` writes the table; ``--check`` says whether it is up to
date, and ends with 1 when it isn't.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SUITE = ROOT / "tests" / "attacks"
TARGET = ROOT / "docs" / "threat-model.md"
BEGIN, END = "<!-- attacks: begin -->\n", "<!-- attacks: end -->\n"
WIDTH = 100


@dataclass(frozen=True, order=True)
class Attack:
    """An attack that the suite makes, first with its defence off."""

    module: str
    name: str
    reference: str
    defence: str
    test: str


def attacks(suite: Path = SUITE) -> Iterator[Attack]:
    """Yield every attack, by module. ``SystemExit`` when a module has none or names no test."""
    for path in sorted(suite.rglob("test_*.py")):
        where = path.relative_to(ROOT).as_posix()
        module = importlib.import_module(where.removesuffix(".py").replace("/", "."))
        found = getattr(module, "ATTACKS", ())
        if not found:
            raise SystemExit(f"{where} needs ATTACKS")
        for attack in found:
            if not (isinstance(attack, tuple) and len(attack) == 4):
                raise SystemExit(f"{where}: ATTACKS are (attack, reference, defence, test)")
            name, reference, defence, test = attack
            if not callable(getattr(module, test, None)):
                raise SystemExit(f"{where} has no test {test}")
            yield Attack(where, name, reference, defence, test)


def table(found: list[Attack]) -> str:
    """Return the list as Markdown: an attack, then its source, defence and evidence."""
    lines: list[str] = []
    group = ""
    for attack in sorted(found):
        part = attack.module.split("/")[2]
        if part != group:
            group = part
            lines += ["", f"### Attacks on {part.removesuffix('.py').removeprefix('test_')}", ""]
        lines += folded(f"- **{attack.name}** ({attack.reference}).")
        lines += folded(f"  Defence: {attack.defence}.")
        lines += [f"  Evidence: `{attack.module}`,", f"  `{attack.test}`"]
    return "\n".join([*lines, ""]) + "\n"


def folded(text: str) -> list[str]:
    """Return a list item's text in lines that are not too long."""
    indent = len(text) - len(text.lstrip())
    lines, line = [], " " * indent
    for word in text.split():
        if len(line) + len(word) + 1 > WIDTH:
            lines.append(line)
            line = "  " + word
        else:
            line = f"{line} {word}" if line.strip() else line + word
    return [*lines, line]


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = TARGET.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    made = before + BEGIN + table(list(attacks())) + END + after
    if arguments.check:
        sys.exit(0 if made == text else f"{TARGET.name} is not up to date: run docs/attacks.py")
    TARGET.write_text(made)


if __name__ == "__main__":
    main()
