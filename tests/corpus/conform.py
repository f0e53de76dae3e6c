"""dciodvfy (Debian dicom3tools): no error in an output that its input doesn't have."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.corpus.score import Pair, Result


def check(paired: list[Pair], result: Result) -> None:
    """Add the section ``conformance``: one line for a file, a failure for each new error."""
    present = [p for p in paired if p.target is not None]
    with ThreadPoolExecutor(2) as pool:
        before = list(pool.map(lambda p: errors(p.source), present))
        after = list(pool.map(lambda p: errors(p.target or p.source), present))
    for pair, old, new in zip(present, before, after, strict=True):
        added = new - old
        result.count("conformance", "files without new errors", not added, f"{pair}: {len(added)}")
        for line, count in added.items():
            for _ in range(count):
                result.count("conformance", "new errors", False, f"{pair}: {line}")


def errors(path: Path) -> Counter[str]:
    """Return the validator's error lines, without the values that they quote."""
    done = subprocess.run(
        ["dciodvfy", str(path)],
        capture_output=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    text = (done.stderr + done.stdout).decode("utf-8", "replace")
    return Counter(_without_values(line) for line in text.splitlines() if line.startswith("Error"))


def _without_values(line: str) -> str:
    line = re.sub(r"<[^<>]*>", "<>", line)
    line = re.sub(r"'[^']*'", "''", line)
    line = re.sub(r"= .*$", "=", line)
    line = re.sub(r"value .* for", "value for", line)
    line = re.sub(r"\d+(\.\d+){2,}", "UID", line)
    return re.sub(r"\s+", " ", re.sub(r"(?<![\w,(])\d+(?![\w,)])", "#", line)).strip()
