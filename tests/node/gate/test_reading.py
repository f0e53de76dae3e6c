"""Recipes read without running them: each kind of suspicious code is seen where it stands."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.bundle import Bundle
from foundation.flower import build
from node.gate.reading import MAX_NOTES, TOPICS, read_code
from tests.docs.reading import ROOT


def topics(code: str) -> dict[int, set[str]]:
    """The topics that were noted, by line."""
    found: dict[int, set[str]] = {}
    for note in read_code({"app.py": code.encode()}):
        found.setdefault(note.line, set()).add(note.topic)
    return found


PACKED = base64.b64encode(bytes(range(256)) * 3).decode()


@pytest.mark.parametrize(
    ("code", "line", "topic"),
    [
        ("import socket", 1, "network"),
        ("x = 1\nfrom urllib.request import urlopen", 2, "network"),
        ("import requests as r\nr.get('http://x')", 1, "network"),
        ("import subprocess as s", 1, "process"),
        ("import os\nos.system('id')", 2, "process"),
        ("from os import popen", 1, "process"),
        ("import os as o\no.fork()", 2, "process"),
        ("import pickle", 1, "serialisation"),
        ("import torch\ntorch.load('x')", 2, "serialisation"),
        ("from torch import load as l\nl('x')", 1, "serialisation"),
        ("import numpy as np\nnp.load('x', allow_pickle=True)", 2, "serialisation"),
        ("eval('1')", 1, "dynamic"),
        ("f = 1\nexec(f)", 2, "dynamic"),
        ("import importlib", 1, "dynamic"),
        ("__import__('o' + 's')", 1, "dynamic"),
        ("getattr(x, 'sys' + 'tem')('id')", 1, "dynamic"),
        ("().__class__.__bases__[0].__subclasses__()", 1, "dynamic"),
        ("import ctypes", 1, "native"),
        ("import threading", 1, "native"),
        ("open('/etc/passwd')", 1, "files"),
        ("open('../../secret')", 1, "files"),
        ("open(path)", 1, "files"),
        ("from pathlib import Path\nPath('/home/x/.ssh').read_text()", 2, "files"),
        ("import os\nos.environ['X']", 2, "files"),
        ("MetricRecord({name: 1.0})", 1, "output"),
        ("MetricRecord({n: v for n, v in rows})", 1, "output"),
        ("import flwr.app as f\nf.MetricRecord({str(age): 1})", 2, "output"),
        ("metrics[patient] = 1.0", 1, "output"),
        ("import base64", 1, "hidden"),
        (f"x = '{PACKED}'", 1, "hidden"),
        (f"x = {bytes(range(256)) * 2!r}", 1, "hidden"),
        (f"x = {list(range(500))!r}", 1, "hidden"),
        (f"x = {2**600}", 1, "hidden"),
        ("def f(:", 0, "hidden"),
        ("x = '\u202e'", 0, "hidden"),
    ],
)
def test_what_a_steward_should_look_at_is_noted_on_its_line(
    code: str, line: int, topic: str
) -> None:
    assert topic in topics(code).get(line, set())


@pytest.mark.parametrize(
    "code",
    [
        "import numpy as np\nx = np.zeros(3)",
        "MetricRecord({'loss': 0.5, 'num-examples': 3})",
        "open('/release/tables/trial.parquet')",
        "getattr(x, 'name')",
        "'''" + "A long text that explains what this is.\n" * 40 + "'''",
        "evaluation = 1\nmy_open = 2",
    ],
)
def test_plain_code_is_not_noted(code: str) -> None:
    assert topics(code) == {}


def test_files_that_are_no_source_are_noted_whole() -> None:
    found = read_code(
        {"a.so": b"\x7fELF\0", "b.bin": b"\xff\xfe", "c.pth": b"import x", "d.md": b"x"}
    )
    assert [(n.file, n.line) for n in found] == [("a.so", 0), ("b.bin", 0), ("c.pth", 0)]


@pytest.mark.parametrize("app", ["tabular", "tutorial"])
def test_our_own_recipes_have_few_notes(app: str) -> None:
    place = ROOT / "recipes" / app if app == "tabular" else ROOT / "docs/tutorials/example/recovery"
    notes = read_code(Bundle.parse(build(place)).files)
    assert len(notes) <= 6, notes
    assert not {n.topic for n in notes} & {"network", "process", "dynamic", "hidden"}


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_a_file_holds_reading_it_ends_without_an_error(content: bytes) -> None:
    notes = read_code({"a.py": content, "b.txt": content})
    assert len(notes) <= MAX_NOTES
    assert {n.topic for n in notes} <= set(TOPICS)


def test_nesting_that_no_parser_takes_is_noted_and_ends() -> None:
    assert topics("(" * 5000 + ")" * 5000)[0] == {"hidden"}
    assert read_code({"a.py": b"x=" + b"-" * 100_000 + b"1"})
