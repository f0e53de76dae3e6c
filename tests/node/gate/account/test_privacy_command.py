"""``privacy show``: what was spent and what remains, by project and by question."""

from __future__ import annotations

import json
import subprocess
import sys

from node.gate.account import Charge
from node.gate.account.events import GaussianRelease
from tests.node.gate.account.conftest import ANA, BEN, LIMITS, Books

COMMAND = "import sys; sys.argv[0] = 'wardgate-node'; from node.cli import main; main()"


def show(books: Books, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as its own process."""
    return subprocess.run(
        [
            *(sys.executable, "-c", COMMAND, "privacy", "show"),
            *("--home", str(books.home.root), *arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_was_spent_is_shown_by_project_and_by_question(books: Books) -> None:
    books.home.policy.write_text('profile = "standard"\n[privacy]\nepsilon_project = 4.0\n')
    books.spend(0.5, ANA, question="ab" * 32)
    books.spend(0.25, BEN)
    charge = Charge("job:round-1", GaussianRelease(20.0))
    books.account.spend(BEN, "", [charge], LIMITS, books.now)
    books.close()
    done = show(books)
    books.open()
    assert done.returncode == 0, done.stderr
    assert "birth (north)" in done.stdout
    assert "0.500" in done.stdout
    assert "3.500" in done.stdout
    assert "all, within 365 days" in done.stdout
    assert "abababababab" not in done.stdout
    done = show(books, "--project", "birth")
    assert "abababababab" in done.stdout
    assert "epsilon 0.5" in done.stdout
    assert "stroke" not in done.stdout
    said = json.loads(show(books, "--json", "--project", "stroke").stdout)
    assert sorted(row["cost"] for row in said["spends"]) == [
        "Gaussian, 20 times the sensitivity",
        "epsilon 0.25",
    ]
    assert said["projects"][0]["spent"] > 0.25
    done = show(books, "--project", "unknown")
    assert done.returncode == 14
    assert done.stderr.count("\n") == 1
