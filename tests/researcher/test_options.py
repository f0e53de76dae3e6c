"""Groups of options: a command that takes a dataclass has its fields as options of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from contract.cohorts import Cohort
from contract.errors import UsageError
from researcher.options import ProjectOption, Protection, Summed, Whom, check_folder, grouped


@dataclass(frozen=True)
class Paint:
    """A group of two options."""

    colour: Annotated[str, typer.Option(help="Which colour.")] = "red"
    coats: Annotated[int, typer.Option(help="How many coats.", min=1)] = 1


def run(*words: str) -> tuple[int, str, list[tuple[str, Paint, bool]]]:
    """Run a command with one group, and return what it was called with."""
    called: list[tuple[str, Paint, bool]] = []
    app = typer.Typer(add_completion=False)

    @app.command()
    @grouped
    def paint(*, project: ProjectOption, paint: Paint, dry: bool = False) -> None:
        """Paint a house."""
        called.append((project, paint, dry))

    result = CliRunner().invoke(app, words)
    return result.exit_code, result.output, called


def test_a_groups_options_are_the_commands_own_and_come_back_as_the_group() -> None:
    assert run("-p", "x") == (0, "", [("x", Paint(), False)])
    words = ("-p", "x", "--colour", "blue", "--coats", "3", "--dry")
    assert run(*words) == (0, "", [("x", Paint("blue", 3), True)])


def test_the_help_of_a_group_stands_where_the_group_does() -> None:
    code, text, _ = run("--help")
    assert code == 0 and "Paint a house." in text
    assert text.index("--project") < text.index("Which colour.") < text.index("--dry")


@pytest.mark.parametrize("words", [("--coats", "0"), ("--coats", "many"), ("--color", "blue")])
def test_a_groups_values_are_checked(words: tuple[str, ...]) -> None:
    code, _, called = run("-p", "x", *words)
    assert (code, called) == (2, [])


def test_terms_are_those_of_a_question() -> None:
    asked = Whom(where=["age >= 65"], site=["north"], minimum_sites=3).terms()
    assert isinstance(asked.pop("cohort"), Cohort)
    assert asked == {"sites": ["north"], "minimum_sites": 3}
    assert Whom().terms() == {"cohort": None, "sites": None, "minimum_sites": 1}
    assert Protection().terms() | Summed(secure=True).terms() == {
        "lane": "any", "epsilon": None, "secure": True, "small_sites": False,
    }  # fmt: skip
    with pytest.raises(UsageError, match="is no condition"):
        Whom(where=["whoever"]).terms()


def test_a_file_that_could_not_be_written_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    check_folder(None, tmp_path / "model.safetensors", Path("here.json"))
    with pytest.raises(UsageError, match="There is no folder"):
        check_folder(tmp_path / "nowhere" / "model.safetensors")
