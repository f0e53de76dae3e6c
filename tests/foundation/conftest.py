"""A private PostgreSQL, for tests of what must hold on both databases."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a new PostgreSQL that listens on a socket in a folder of its own."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server isn't installed (apt-get install postgresql)")
    # PostgreSQL refuses to run as root.
    account: dict[str, str] = {"user": "postgres"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="wg", dir="/tmp") as name:
        folder = Path(name)
        if account:
            shutil.chown(folder, account["user"])

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [str(binaries / program), "-D", str(folder / "data"), *arguments],
                check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                **account,  # type: ignore[call-overload]
            )  # fmt: skip

        run("initdb", "-U", "wardgate", "-A", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        run("pg_ctl", "-o", options, "-l", str(folder / "log"), "-w", "start")
        try:
            yield f"postgresql+psycopg://wardgate@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-m", "immediate", "-w", "stop")
