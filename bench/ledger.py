"""The ledger: durable appends per second, and the time to verify a million entries.

``appends_per_s``: sixteen threads append an answer's entry each, one after another; each append
returns once its entry is on the disk. ``verify_million_s``: chain, Merkle root and clock of a
million such entries. ``open_million_s`` and ``open_resident_mb``: a start over them, and its
memory. ``prove_ms``: one inclusion proof.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.support.federation import report
from node.gate.ledger import Ledger, examine
from node.gate.ledger.entries import GENESIS, finish_line, format_content

THREADS = 16
SECONDS = 5.0
MILLION = 1_000_000
OPEN = """
import resource, sys, time
from pathlib import Path
from node.gate.ledger import Ledger
start = time.perf_counter()
Ledger(Path(sys.argv[1]))
took = time.perf_counter() - start
print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
"""


def body(number: int) -> dict[str, object]:
    """Return an answer as the gate writes it down."""
    digest = hashlib.sha256(b"%d" % number).hexdigest()
    return {
        "consortium": "opt",
        "job": digest,
        "task": "statistics",
        "work": "statistics",
        "project": "trial",
        "researcher": "ana",
        "release": digest,
        "payload": digest,
        "tensors": "",
        "kept": [],
        "bytes": 300,
        "lane": "exact",
        "rules": ["DeclaredSchema", "DeclaredSize", "MinimumCohort"],
        "policy": digest,
    }


def appends_per_second(folder: Path) -> float:
    """Measure durable appends of sixteen threads."""
    ledger = Ledger(folder)
    done = [0] * THREADS
    end = time.perf_counter() + SECONDS

    def work(who: int) -> None:
        while time.perf_counter() < end:
            ledger.append("answer", body(done[who]), datetime.now(UTC))
            done[who] += 1

    threads = [threading.Thread(target=work, args=(who,)) for who in range(THREADS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    ledger.close()
    return sum(done) / took


def make(folder: Path, count: int) -> None:
    """Write a ledger of many entries at once."""
    folder.mkdir(mode=0o700)
    previous, begin = GENESIS, datetime(2026, 1, 1, tzinfo=UTC)
    with (folder / "ledger.jsonl").open("wb") as file:
        for number in range(count):
            content = format_content(begin + timedelta(seconds=number), "answer", body(number))
            line = finish_line(number, content, previous)
            previous = hashlib.sha256(line).hexdigest()
            file.write(line + b"\n")


def measure(root: Path, entries: int = MILLION) -> dict[str, float]:
    """Return the figures, with a ledger of ``entries`` under ``root``."""
    figures = {"appends_per_s": appends_per_second(root / "appends")}
    folder = root / "million"
    make(folder, entries)
    start = time.perf_counter()
    found = examine(folder)
    figures["verify_million_s"] = time.perf_counter() - start
    start = time.perf_counter()
    ledger = Ledger(folder)  # the first time; it makes the index
    figures["index_million_s"] = time.perf_counter() - start
    assert (ledger.head, ledger.standing().root.hex()) == (found.head, found.root)
    start = time.perf_counter()
    for number in range(100):
        ledger.inclusion_proof(number * entries // 100, entries)
    figures["prove_ms"] = (time.perf_counter() - start) * 10
    ledger.close()
    command = [sys.executable, "-c", OPEN, str(folder)]
    environment = os.environ | {"PYTHONPATH": sys.path[0]}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    figures["open_million_s"], figures["open_resident_mb"] = map(float, done.stdout.split())
    return figures


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="wardgate-ledger-") as name:
        report(measure(Path(name)), [])
