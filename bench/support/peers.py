"""The open de-identification tools that Wardgate is measured against, each in its own environment.

They are installed from PyPI, pinned, under ``.cache/bench-deid/`` of the project, on first use.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache" / "bench-deid"
RUNNER = Path(__file__).with_name("peer_run.py")


@dataclass(frozen=True)
class Peer:
    """A tool: what to install, under which Python, and what it is written in."""

    name: str
    requirement: str
    python: str = "python3.11"
    language: str = "Python"

    @property
    def interpreter(self) -> Path:
        return CACHE / self.name / "bin" / "python"


PEERS = (
    Peer("dicom-anonymizer", "dicom-anonymizer==2.1.0"),
    Peer("deid", "deid==0.4.13"),
    Peer("dicognito", "dicognito==0.19.0"),
    Peer("idiscore", "idiscore==1.6.0", python="python3.12"),  # it needs 3.12
    Peer("dcmanon", "dcmanon==0.3.1", language="Rust"),
)


def install(peer: Peer) -> str:
    """Make the peer's environment if it isn't there; return why it can't be, or nothing."""
    if peer.interpreter.is_file():
        return ""
    python = _python(peer.python)
    if python is None:
        return f"{peer.name} needs {peer.python}, which is not here"
    folder = CACHE / peer.name
    quiet = ["--quiet", "--disable-pip-version-check"]
    for command in (
        [python, "-m", "venv", str(folder)],
        [str(folder / "bin" / "pip"), "install", *quiet, peer.requirement],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            return f"{peer.requirement} can't be installed: {done.stderr.strip()[-200:]}"
    return ""


def run(
    peer: Peer, source: Path, target: Path, *, cores: int = 1, way: str = "plain"
) -> dict[str, float]:
    """De-identify a folder; return files, failed and seconds, imports and start not counted."""
    command = ["taskset", "--cpu-list", "0" if cores == 1 else "0,1", str(peer.interpreter)]
    command += [str(RUNNER), peer.name, str(source), str(target), way]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CACHE)
    if done.returncode:
        sys.stderr.write(done.stderr[-800:])
        raise SystemExit(f"{peer.name} failed")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _python(name: str) -> str | None:
    found = shutil.which(name)
    works = found and not subprocess.run([found, "-V"], capture_output=True, check=False).returncode
    if works:
        return found
    versions = sorted(
        Path.home().glob(f".pyenv/versions/{name.removeprefix('python')}*/bin/python3")
    )
    return str(versions[-1]) if versions else None
