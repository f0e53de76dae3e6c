"""The steward's commands for recipes."""

import hashlib

import pytest
from typer.testing import CliRunner

from contract.errors import NotFound, UsageError
from node.commands.recipe import app
from node.config import create_home
from node.home import NodeHome
from tests.node.work.training.flower_apps import bundle


@pytest.fixture
def recipe(tmp_path):
    create_home(NodeHome(tmp_path / "home"))
    (tmp_path / "tiny.fab").write_bytes(bundle())

    def call(*arguments, answer=None):
        command = [*arguments, "--home", str(tmp_path / "home")]
        return CliRunner().invoke(app, command, input=answer, catch_exceptions=True)

    return tmp_path / "tiny.fab", call


def test_a_recipe_is_shown_before_it_is_let_in_and_can_be_withdrawn(recipe):
    path, call = recipe
    digest = hashlib.sha256(bundle()).hexdigest()
    refused = call("approve", str(path), answer="n\n")
    assert isinstance(refused.exception, UsageError)
    assert "No recipes yet" in call("list").output
    approved = call("approve", str(path), answer="y\n")
    assert approved.exit_code == 0, approved.exception
    for shown in ("tests/tiny", "1.0.0", digest, "tiny/client_app.py", "numpy>=2", "rate = 0.1"):
        assert shown in approved.output
    assert "approved" in call("list").output
    assert "locked numpy==" in call("show", digest[:8]).output
    assert call("withdraw", digest[:8]).exit_code == 0
    assert "withdrawn" in call("list").output
    assert isinstance(call("show", "0" * 8).exception, NotFound)
    assert isinstance(call("approve", "/nonexistent.fab").exception, NotFound)
