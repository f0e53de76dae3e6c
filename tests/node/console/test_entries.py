"""What the ledger can hold has a name on the page, and a line in the documents."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from node.gate.account import account
from node.gate.ledger import book

ROOT = Path(__file__).resolve().parents[3]
CALLED = re.compile(r"(^|\.)(_?record|_?ledger\.append|Ledger\(.*\)\.append)$|^self\.append$")
CONSTANTS = {"SPENT": account.SPENT, "PURGED": book.PURGED}


def written() -> Iterator[str]:
    """Yield the kind of every entry that code of the node writes."""
    for path in (ROOT / "node").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not CALLED.search(ast.unparse(call.func)):
                continue
            for given in call.args[:2]:
                if isinstance(given, ast.Constant) and isinstance(given.value, str):
                    yield given.value
                elif isinstance(given, ast.Name) and given.id in CONSTANTS:
                    yield CONSTANTS[given.id]


def test_every_kind_of_entry_is_named_on_the_page_and_documented() -> None:
    kinds = set(written())
    assert {"admitted", "answer", "spent", "drafted", "release-created"} <= kinds
    texts = tomllib.loads((ROOT / "node/console/texts/en.toml").read_text())
    page = (ROOT / "docs/architecture.md").read_text()
    table = page.partition("| kind | when |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^\| (.*?) \|", table, re.M))))
    assert set(texts["entry"]) == documented
    assert kinds == documented
