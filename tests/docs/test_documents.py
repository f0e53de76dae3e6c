"""Documents hold what they say: links, commands, targets, tests, tables."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from contract.documents import Project
from coordinator.jobs.states import JOB_TRANSITIONS
from foundation.flower import build
from node.gate.before_egress import BEFORE_EGRESS
from node.gate.before_work import BEFORE_WORK
from node.intake.schema import read_schema
from tests.docs.reading import (
    ROOT,
    anchors,
    code_spans,
    complaint,
    documents,
    fences,
    find,
    links,
    our_commands,
    prose,
    shell_lines,
    table_below,
)

EXAMPLE = ROOT / "docs" / "tutorials" / "example"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
OURS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs")
each = pytest.mark.parametrize(
    "document", documents(), ids=lambda path: str(path.relative_to(ROOT))
)


@each
def test_every_relative_link_resolves(document: Path) -> None:
    text = document.read_text()
    for link in links(text):
        if re.match(r"^[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text()), link


@each
def test_every_command_shown_exists_with_these_options(document: Path) -> None:
    for words in our_commands(document.read_text()):
        assert not complaint(words), f"{' '.join(words)}: {complaint(words)}"


@each
def test_every_command_named_in_a_sentence_exists(document: Path) -> None:
    for span in code_spans(document.read_text()):
        words = [w for w in span.split() if not w.isupper() and w != "..."]
        if words and words[0] in ("wardgate", "wardgate-node", "wardgate-coordinator"):
            command, rest = find(words)
            options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
            assert {w for w in rest if w.startswith("-")} <= options | {"--help"}, span


def test_a_wrong_command_is_noticed() -> None:
    assert complaint(["wardgate-node", "release", "destroy", "x"])
    assert complaint(["wardgate-node", "release", "revoke"])
    assert complaint(["wardgate-node", "release", "revoke", "x", "--now"])
    assert complaint(["wardgate", "statistics", "--mean", "age"])
    assert not complaint(["wardgate", "statistics", "-p", "x", "--mean", "age", "--mean", "bmi"])


@each
def test_every_make_target_named_exists(document: Path) -> None:
    text = document.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [line.split()[1:2] for line in shell_lines(text) if line.startswith("make ")]
    named += [span.split()[1:2] for span in code_spans(text) if span.startswith("make ")]
    assert {target for found in named for target in found} <= targets


def test_the_debian_packages_that_are_named_are_those_that_make_installs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    installed = re.findall(r"debian-packages (.*)", makefile)
    named = re.search(r"from Debian (.*?)\.\n", (ROOT / "README.md").read_text(), re.DOTALL)
    assert named is not None
    assert set(re.findall(r"`([a-z0-9-]+)`", named.group(1))) == set(" ".join(installed).split())


@each
def test_a_line_has_at_most_a_hundred_characters(document: Path) -> None:
    if document.is_relative_to(ROOT / "docs") or document.parent == ROOT:
        long = [line for line in document.read_text().splitlines() if len(line) > 100]
        assert not [line for line in long if not line.startswith("|")]


def test_every_file_of_ours_that_a_document_names_exists() -> None:
    ours = "contract|foundation|learning|node|coordinator|researcher|configs"
    named = re.compile(rf"^({ours})/[\w./-]+$")
    for document in documents():
        if document.relative_to(ROOT).parts[0] not in OURS:
            continue
        for span in code_spans(document.read_text()):
            if named.match(span):
                assert (ROOT / span).exists(), f"{document.name}: {span}"


def test_every_test_that_a_document_names_exists() -> None:
    count = 0
    for document in documents():
        source = ""
        for span in code_spans(document.read_text()):
            if re.fullmatch(r"tests/[\w/]+\.py", span):
                source = (ROOT / span).read_text()
            elif re.fullmatch(r"test_\w+", span):
                assert f"def {span}(" in source, f"{document.name}: {span}"
                count += 1
    assert count > 10


# ---- architecture --------------------------------------------------------------------------------


def test_the_tables_of_rules_are_the_gates() -> None:
    for heading, rules in (
        ("Before work (", BEFORE_WORK),
        ("Before egress (", BEFORE_EGRESS),
    ):
        shown = [row[0] for row in table_below(ARCHITECTURE, heading)]
        assert shown == [type(rule).__name__ for rule in rules]


def test_the_table_of_job_states_is_the_coordinators() -> None:
    shown = [tuple(row) for row in table_below(ARCHITECTURE, "## Jobs")]
    assert shown == [(str(s), str(e), str(after)) for (s, e), after in JOB_TRANSITIONS.items()]


@pytest.mark.parametrize(("heading", "message"), [("FromNode", 0), ("ToNode", 1)])
def test_the_tables_of_messages_are_the_wires(heading: str, message: int) -> None:
    proto = (ROOT / "contract" / "wire.proto").read_text()
    body = re.search(rf"message {heading} \{{\s+oneof body \{{(.*?)\}}", proto, re.DOTALL)
    assert body is not None
    fields = re.findall(r"(\w+) = \d+;", body[1])
    line = ("| from a node |", "| to a node |")[message]
    before = ARCHITECTURE[: ARCHITECTURE.index(line)].splitlines()[-2]
    rows = table_below(ARCHITECTURE, before + "\n\n" + line)
    assert sorted(row[0] for row in rows) == sorted(fields)


# ---- decisions -----------------------------------------------------------------------------------


def test_decisions_are_numbered_without_gaps_and_have_three_parts() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    pages = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    for number, page in enumerate(pages, 1):
        text = page.read_text()
        assert page.name.startswith(f"{number:04d}-")
        title = text.splitlines()[0]
        assert title.startswith(f"# {number}. ")
        headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"]
        assert f"{number}. [{title.split('. ', 1)[1]}]({page.name})" in index


# ---- tutorials -----------------------------------------------------------------------------------


def test_the_tutorials_example_is_a_schema_a_recipe_and_a_project(tmp_path: Path) -> None:
    table = tmp_path / "north.csv"
    maker = [sys.executable, str(EXAMPLE / "make_table.py"), "north", "50", str(table)]
    subprocess.run(maker, check=True)
    schema = read_schema(EXAMPLE / "stroke.toml")
    header = table.read_text().splitlines()[0].split(",")
    assert header == [schema.subject, *(column.name for column in schema.columns)]
    values = tomllib.loads((EXAMPLE / "project.toml").read_text())
    recipe = values["recipes"][0]
    assert build(EXAMPLE / recipe.pop("path"))
    recipe["bundle"] = "0" * 64
    values.pop("valid_days")
    values |= {
        "consortium": "stroke-net",
        "version": 1,
        "issued_at": "2026-01-01T00:00:00Z",
        "expires_at": "2027-01-01T00:00:00Z",
    }
    project = Project.model_validate(values)
    kept = {column.variable for column in schema.kept}
    assert {variable.name for variable in project.variables} <= kept


def test_the_tutorials_recipe_has_the_digest_that_they_show() -> None:
    import hashlib

    digest = hashlib.sha256(build(EXAMPLE / "recovery")).hexdigest()
    for tutorial in ("hospital.md", "researcher.md"):
        assert digest in (ROOT / "docs" / "tutorials" / tutorial).read_text()


def test_python_in_the_tutorials_compiles_and_imports_what_is_there() -> None:
    import researcher

    for path in (ROOT / "docs" / "tutorials").glob("*.md"):
        for fence in fences(path.read_text()):
            if fence.language == "python":
                source = "\n".join(fence.lines)
                compile(source, str(path), "exec")
                for names in re.findall(r"^from researcher import (.*)$", source, re.MULTILINE):
                    assert {name.strip() for name in names.split(",")} <= set(researcher.__all__)


# ---- the generated reference ---------------------------------------------------------------------


def test_the_reference_is_generated_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = runpy.run_path(str(ROOT / "docs" / "generate.py"))["main"]

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["generate.py", "--target", str(tmp_path), *arguments])
        return int(main())

    assert run("--check") == 1
    assert run() == 0
    assert run("--check") == 0
    commands = (tmp_path / "cli.md").read_text()
    assert "wardgate-node release create" in commands
    assert "--minimum-sites" in commands
    wire = prose((tmp_path / "wire.md").read_text())
    proto = (ROOT / "contract" / "wire.proto").read_text()
    messages = re.findall(r"^message (\w+)", proto, re.MULTILINE)
    assert re.findall(r"^### (\w+)$", wire, re.MULTILINE) == messages


def test_the_list_of_attacks_is_that_of_the_suite() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "attacks.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
