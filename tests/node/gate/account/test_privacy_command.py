"""``privacy show``: what was spent and what remains, by project and by question."""

from __future__ import annotations

import json

from click.testing import Result
from typer.testing import CliRunner

from contract.errors import NotFound
from node.commands import privacy
from node.gate.account import Charge
from node.gate.account.events import GaussianRelease
from tests.node.gate.account.conftest import ANA, BEN, LIMITS, Books


def show(books: Books, *arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(privacy.app, ["show", "--home", str(books.home.root), *arguments])


def test_what_was_spent_is_shown_by_project_and_by_question(books: Books) -> None:
    books.home.policy.write_text('profile = "standard"\n[privacy]\nepsilon_project = 4.0\n')
    books.spend(0.5, ANA, question="ab" * 32)
    books.spend(0.25, BEN)
    charge = Charge("job:round-1", GaussianRelease(20.0))
    books.account.spend(BEN, "", [charge], LIMITS, books.now)
    books.close()
    done = show(books)
    books.open()
    assert done.exit_code == 0, done.output
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
    assert isinstance(done.exception, NotFound)
