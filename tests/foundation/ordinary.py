"""An ordinary user with a Python that it may read, for tests that run as root."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from foundation import seccomp

ROOT = Path(__file__).parents[2]
BECOME = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@contextmanager
def python() -> Iterator[Path]:
    """Yield a Python that others can run and that finds our packages.

    The test is skipped where there can be none. It is not in pytest's own folder, which is for its
    owner alone.
    """
    if os.geteuid() != 0:
        pytest.skip("root alone can become another user")
    for folder in (ROOT, *ROOT.parents):
        if not folder.stat().st_mode & 0o001:
            pytest.skip("the sources can't be read by other users")
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="wardgate-python-") as place:
        made = Path(place)
        made.chmod(0o755)
        subprocess.run([seccomp.SYSTEM_PYTHON, "-m", "venv", "--without-pip", made], check=True)
        (packages,) = (made / "lib").glob("python3*/site-packages")
        (packages / "wardgate.pth").write_text(f"{ROOT}\n")
        yield made / "bin" / "python"
