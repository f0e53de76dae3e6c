"""Seconds of a training round beside the training itself: three nodes, a do-nothing recipe.

A tiny model, and one of 45 MB of float32 in 122 tensors; gate and ledger on. A round's time is
from one aggregation to the next; the first round is not counted. ``first_message_s`` is from the
researcher's call until the first node has its first message.

Beside it the same on Flower's own runtime and on NVFlare in its provisioned mode, where it can be
installed (``support/training_peers``): ``flower_tiny_round_s`` and so on. ``--alone`` leaves them
out, ``--peer-rounds`` says how many rounds they have: theirs take long.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.support import training_peers
from bench.support.federation import PROJECT, federation, report, wait_for_releases
from node.gate.ledger import read_entries
from researcher import Consortium

SITES, ROUNDS = ("a", "b", "c"), 11
LARGE_VALUES, LARGE_TENSORS = 45_000_000 // 4, 122
RECIPE = Path(__file__).resolve().parent / "support" / "noop"


def table(site: str, folder: Path) -> Path:
    """Write a site's CSV: enough rows to be allowed to train."""
    path = folder / f"{site}.csv"
    path.write_text("pid,x\n" + "".join(f"{site}{i},{i}\n" for i in range(200)))
    return path


def run(consortium: Consortium, ledger: Path, tensors: int, values: int) -> tuple[float, float]:
    """Return (median seconds of a round after the first, seconds until the first answer)."""
    known = sum(1 for entry in read_entries(ledger) if entry.kind == "answer")
    before = time.time()
    handle = consortium.train(
        PROJECT,
        "noop",
        {"num-server-rounds": ROUNDS, "tensors": tensors, "values": values},
        minimum_sites=len(SITES),
    )
    times = [event.time for event in handle.events() if event.kind == "round"]
    handle.result()
    first = [e for e in read_entries(ledger) if e.kind == "answer"][known]
    first_message = datetime.fromisoformat(first.time).timestamp() - before
    rounds = sorted(b - a for a, b in pairwise(times))
    return rounds[len(rounds) // 2], first_message


def measure() -> dict[str, float]:
    """Run both models; return the figures."""
    schema = (
        'table = "table"\nsubject = "pid"\n[[columns]]\nname = "pid"\ntype = "identifier"\n'
        '[[columns]]\nname = "x"\ntype = "number"\n'
    )
    project = (
        'kinds = ["training"]\ntable = "table"\n'
        '[[variables]]\nname = "x"\nkind = "number"\n'
        f'[[recipes]]\nname = "noop"\npath = "{RECIPE}"\nmetrics = ["num-examples"]\n'
        "[recipes.parameters]\nnum-server-rounds = { minimum = 1, maximum = 100 }\n"
        "tensors = { minimum = 1, maximum = 1000 }\n"
        "values = { minimum = 1, maximum = 100000000 }\n"
    )
    with (
        federation(SITES, table, schema, project, [RECIPE]) as bench,
        Consortium.connect(bench.researcher) as consortium,
    ):
        wait_for_releases(consortium, SITES)
        ledger = bench.root / SITES[0] / "ledger"
        tiny, first = run(consortium, ledger, 1, 10)
        large, _ = run(consortium, ledger, LARGE_TENSORS, LARGE_VALUES)
    return {
        "tiny_round_s": round(tiny, 3),
        "large_round_s": round(large, 3),
        "first_message_s": round(first, 2),
    }


def peers(rounds: int) -> dict[str, float]:
    """Run the peers that are here; return their figures."""
    runs: dict[str, Callable[[int, int], training_peers.Figures]] = {
        "flower": lambda tensors, values: training_peers.flower(RECIPE, rounds, tensors, values)
    }
    python = training_peers.nvflare_python()
    if python is not None:
        runs["nvflare"] = lambda tensors, values: training_peers.nvflare(
            python, rounds, tensors, values
        )
    figures: dict[str, float] = {}
    for name, run_peer in runs.items():
        for size, tensors, values in (
            ("tiny", 1, 10),
            ("large", LARGE_TENSORS, LARGE_VALUES),
        ):
            try:
                seconds, first = run_peer(tensors, values)
            except RuntimeError as error:
                print(f"{name}, {size}: {error}", file=sys.stderr)
                continue
            figures[f"{name}_{size}_round_s"] = round(seconds, 3)
            if size == "tiny":
                figures[f"{name}_first_message_s"] = round(first, 2)
    return figures


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument("--peer-rounds", type=int, default=5)
    given = parser.parse_args()
    figures = measure()
    if not given.alone:
        figures |= peers(given.peer_rounds)
    report(figures, [f"{len(SITES)} nodes, {ROUNDS - 1} rounds each, median"])


if __name__ == "__main__":
    main()
