"""Processes of other users, also where the Python installation is in a closed home."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_OPENED = """
set -e
umask 022
mkdir -p "$1/$2"
mount --bind "$3/$2" "$1/$2"
mount --rbind "$1" "$3"
shift 3
umask 077
exec "$@"
"""


def as_user(user: int, group: int, opened: Path, *command: object) -> list[str]:
    """Return the command line that runs ``command`` as another user (0: root as it is).

    Where an ancestor of this Python is closed to others (``/root``), the process sees, in a mount
    namespace of its own, an open folder in its place that holds nothing else. ``opened`` is an
    empty folder for that.
    """
    words = [str(word) for word in command]
    if user:
        ids = ["--reuid", str(user), "--regid", str(group), "--groups", str(group)]
        words = ["setpriv", *ids, *words]
    closed = _closed_ancestor()
    if closed is None:
        return words
    opened.mkdir(exist_ok=True)
    opened.chmod(0o755)
    below = Path(sys.base_prefix).relative_to(closed)
    return [
        "unshare",
        "-m",
        "sh",
        "-c",
        _OPENED,
        "sh",
        str(opened),
        str(below),
        str(closed),
        *words,
    ]


def run(words: list[str], **more: object) -> subprocess.CompletedProcess[str]:
    """Run it to its end, from the root folder."""
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        cwd="/",
        umask=0o077,  # as in the units
        **more,  # type: ignore[call-overload]
    )


def _closed_ancestor() -> Path | None:
    for path in reversed(Path(sys.base_prefix).parents):
        if not path.stat().st_mode & 0o001:
            return path
    return None
