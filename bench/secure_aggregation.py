"""Processor time of a secure sum of a million words: one client's, and the server's, on one core.

100 sites over the complete graph with 10 % dropping out before their vectors come, and 400 over the
sparse one (gamma 0.2, delta 0.1) likewise. ``--curves FILE.png`` draws costs by sites and length.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_threads] = "1"
sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from bench.support.federation import report
from contract.keys import SigningKey
from contract.secure_aggregation import Client, Participant, Server, Terms, degree
from contract.secure_aggregation.masking import Words
from contract.secure_aggregation.messages import MaskedVector, smallest_threshold

MILLION = 1_000_000
DROPPED = 0.1
GAMMA, DELTA = 0.2, 0.1


@dataclass
class Cost:
    """Seconds of processor time, and whether the sum was right."""

    client_s: float
    server_s: float


def terms(sites: int, length: int, *, sparse: bool) -> tuple[Terms, list[SigningKey]]:
    """Return the terms of a sum over so many sites."""
    keys = [SigningKey.generate() for _ in range(sites)]
    found = degree(sites, GAMMA, DELTA) if sparse else None
    threshold = found.threshold if found else smallest_threshold(sites)
    made = Terms(
        session=bytes(32),
        participants=tuple(Participant(f"{i:05}", key.public) for i, key in enumerate(keys)),
        minimum=threshold if not found else sites // 2,
        length=length,
        word=32,
        threshold=threshold,
        degree=found.neighbours if found else 0,
    )
    return made, keys


def run(sites: int, length: int, *, sparse: bool) -> Cost:
    """Run one whole sum, timing one site that stays and the server.

    The vectors of the others are short-cut: what a site masks costs the same at each, so only the
    measured one works on a whole vector and the server adds that many.
    """
    agreed, keys = terms(sites, length, sparse=sparse)
    clients = [Client(agreed, key) for key in keys]
    server = Server(agreed)
    gone = set(range(1, 1 + int(sites * DROPPED)))
    vector: Words = np.arange(length, dtype=np.uint32)
    client_s = server_s = 0.0

    def timed(step: object, *given: object) -> object:
        nonlocal server_s
        before = time.process_time()
        done = step(*given)  # type: ignore[operator]
        server_s += time.process_time() - before
        return done

    def measured(site: int, step: object, *given: object) -> object:
        nonlocal client_s
        before = time.process_time()
        done = step(*given)  # type: ignore[operator]
        if site == 0:
            client_s += time.process_time() - before
        return done

    for site, client in enumerate(clients):
        timed(server.advertised, measured(site, client.advertise))
    told: dict = timed(server.introductions)  # type: ignore[assignment, type-arg]
    for site, client in enumerate(clients):
        timed(server.shared, site, measured(site, client.share, told[site]))
    deliveries: dict = timed(server.deliveries)  # type: ignore[assignment, type-arg]
    stay = [site for site in range(sites) if site not in gone]
    for site in stay:
        message: MaskedVector = measured(  # type: ignore[assignment]
            site, clients[site].mask, deliveries[site], vector
        )
        timed(server.masked, message)
    survivors: dict = timed(server.survivors)  # type: ignore[assignment, type-arg]
    for site in stay:
        timed(server.confirmed, measured(site, clients[site].confirm, survivors[site]))
    confirmations = timed(server.confirmations)
    for site in stay:
        timed(server.revealed, measured(site, clients[site].unmask, confirmations))
    total = timed(server.total)
    if not np.array_equal(total, vector * np.uint32(len(stay))):  # type: ignore[arg-type]
        raise SystemExit("the sum is wrong")
    return Cost(client_s, server_s)


def draw(target: Path, lengths: Sequence[int], sites: Sequence[int]) -> None:
    """Draw costs by number of sites and by length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    by_sites = [run(n, 100_000, sparse=False) for n in sites]
    by_length = [run(20, length, sparse=False) for length in lengths]
    for panel, at, costs, label in (
        (axes[0], sites, by_sites, "sites (100,000 words)"),
        (axes[1], lengths, by_length, "words (20 sites)"),
    ):
        panel.plot(at, [c.client_s for c in costs], marker="o", label="client")
        panel.plot(at, [c.server_s for c in costs], marker="o", label="server")
        panel.set(xlabel=label, ylabel="seconds of processor time", xscale="log", yscale="log")
        panel.legend()
    figure.savefig(target)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=Path, help="draw cost curves to this picture")
    arguments = parser.parse_args()
    if arguments.curves:
        draw(arguments.curves, (1000, 10_000, 100_000, MILLION), (5, 10, 20, 50, 100))
        return
    complete = run(100, MILLION, sparse=False)
    sparse = run(400, MILLION, sparse=True)
    chosen = degree(400, GAMMA, DELTA)
    report(
        {
            "client100_s": round(complete.client_s, 3),
            "server100_s": round(complete.server_s, 3),
            "client400_s": round(sparse.client_s, 3),
            "server400_s": round(sparse.server_s, 3),
        },
        [f"400 sites: {chosen.neighbours} neighbours, threshold {chosen.threshold}"],
    )


if __name__ == "__main__":
    main()
