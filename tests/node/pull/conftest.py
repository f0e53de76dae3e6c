"""One Orthanc with studies in it, for every test that only reads, and nodes that know it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.cli import main
from node.config import create_home
from node.home import NodeHome
from tests.node.homes import new_home
from tests.node.orthanc import (
    Orthanc,
    orthanc_program,
    start_orthanc,
    stop_orthanc,
)
from tests.node.pull.making import PATIENTS, Study
from tests.ports import free_port

STUDIES = (
    Study(1, ("CT", "MR"), 4),
    Study(2, ("CT",), 5, date="20260220", compressed=True),
    Study(3, ("MR", "OT"), 2, description="SCHÄDEL", body_part="HEAD"),
    Study(4, ("CT",), 3, date="20260131"),
)
ACCESSIONS = [study.accession for study in STUDIES]
INSTANCES = [uid for study in STUDIES for uid in study.instance_uids()]


@dataclass
class Filled:
    """A running archive, and the port on which it knows us as WARDGATE."""

    orthanc: Orthanc
    our_port: int


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """An Orthanc that holds the studies."""
    if orthanc_program() is None:
        pytest.skip("no Orthanc here")
    running = start_orthanc(tmp_path_factory.mktemp("archive") / "orthanc")
    try:
        for study in STUDIES:
            for file in study.files():
                running.upload(file)
        port = free_port()
        running.modality("wardgate", "WARDGATE", port)
        yield Filled(running, port)
    finally:
        stop_orthanc(running)


def archive_table(filled: Filled, kind: str, **more: str) -> str:
    """Return the settings' table of the archive, asked in this way."""
    if kind == "web":
        lines = {"kind": '"dicomweb"', "url": f'"{filled.orthanc.dicomweb}"', "page": "2"}
    else:
        lines = {
            "kind": '"dicom"',
            "host": '"127.0.0.1"',
            "port": str(filled.orthanc.dicom_port),
            "ae_title": '"ORTHANC"',
            "retrieve": f'"{kind}"',
            "listen_host": '"127.0.0.1"',
            "listen_port": str(filled.our_port),
        }
    lines |= more
    return "[pull.archives.pacs]\n" + "".join(f"{key} = {v}\n" for key, v in lines.items())


@dataclass
class Node:
    """A node on disk, and its command."""

    home: NodeHome

    def settings(self, text: str) -> None:
        """Write ``node.toml``."""
        self.home.settings.write_text(text)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start ``wardgate-node`` with these words, as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.node.pull.command", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "WARDGATE_NODE_HOME": str(self.home.root)},
        )

    def run(self, *words: str, given: str = "") -> tuple[int, str]:
        """Run the command in this process; return its exit code and all that it said."""
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
            patch.setenv("WARDGATE_NODE_HOME", str(self.home.root))
            patch.setattr(sys, "argv", ["wardgate-node", *words])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
            stack.enter_context(redirect_stdout(said))
            stack.enter_context(redirect_stderr(said))
            try:
                main()
            except SystemExit as ended:
                return int(ended.code or 0), said.getvalue()
        raise AssertionError("a command always ends")

    def traces(self) -> dict[str, bytes]:
        """Return every file of the home but the vault's, by its path."""
        return {
            str(path.relative_to(self.home.root)): path.read_bytes()
            for path in self.home.root.rglob("*")
            if path.is_file() and not path.is_relative_to(self.home.vault)
        }


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A new node without settings."""
    return Node(create_home(new_home(tmp_path / "node")))


@pytest.fixture
def accessions(tmp_path: Path) -> Path:
    """A list of every study's accession number, and of one that the archive hasn't."""
    path = tmp_path / "list.csv"
    path.write_text("Accession Number;Remark\n" + "".join(f"{a};x\n" for a in [*ACCESSIONS, "N0"]))
    return path


def secrets(numbers: bool = True) -> list[str]:
    """Return what names a patient of these studies."""
    named = [part for name in PATIENTS for part in name.split("^")]
    listed = [s.patient for s in STUDIES] + [s.uid for s in STUDIES]
    return named + listed + (ACCESSIONS if numbers else [])


def nothing_identified(texts: Mapping[str, bytes]) -> None:
    """Assert that no text holds what names a patient, in plain, UTF-16 or hexadecimal."""
    for secret in secrets():
        for form in (secret.encode(), secret.encode("utf-16-le"), secret.encode().hex().encode()):
            for place, data in texts.items():
                assert form not in data, f"{secret} in {place}"
