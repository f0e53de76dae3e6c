"""Six centres of a rare disease, of which one has nine patients, with releases for sums alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contract.dictionary import Variable
from contract.work import Statistic
from node.catalog.strata import StratumWish
from node.gate.policy import Policy
from tests.sessions.hospitals import Session, Table, missing, open_sites, standard

RARE = (
    Variable(name="arm", kind="category", levels=("active", "control")),
    Variable(name="age", kind="number", whole=True, minimum=0, maximum=80, bins=8),
    Variable(name="score", kind="number", minimum=0, maximum=10, bins=5),
    Variable(name="ill", kind="category", levels=("no", "yes")),
)
SIZES = (60, 45, 9, 38, 24, 51)
SMALL = 2
ANALYSIS = {"main": ("arm", "age", "score", "ill")}


def patients(seed: int, size: int) -> Table:
    """A centre's patients."""
    rng = np.random.default_rng(seed)
    arm = [("active", "control")[i % 2] for i in range(size)]
    ill = [("no", "yes")[(i // 2) % 2] for i in range(size)]
    lacking = 0.05 if size > 20 else 0.0
    scores = [round(float(v), 2) for v in rng.uniform(1, 9, size)]
    if size < 20:  # nobody's score may be most of a sum, and so few are easily
        scores = [round((2, 8)[(i // 2) % 2] + 0.07 * i, 2) for i in range(size)]
    return {
        "arm": arm,
        "age": [int(v) for v in rng.integers(2, 78, size)],
        "score": missing(rng, scores, lacking),
        "ill": ill,
    }


def allowing() -> Policy:
    """The profile ``standard``, where the hospital allows small sites."""
    policy = standard()
    disclosure = policy.disclosure.model_copy(update={"small_sites": True})
    return policy.model_copy(update={"disclosure": disclosure})


def tables(sizes: Sequence[int] = SIZES) -> list[Table]:
    """The centres' patients."""
    return [patients(30 + at, size) for at, size in enumerate(sizes)]


def open_centres(folder: Path, held: Sequence[Table] | None = None, **how: Any) -> Session:
    """Open the centres' nodes."""
    named = {"policy": allowing(), "small": True} | how
    held = held or tables()
    return Session(open_sites(folder, held, RARE, [StratumWish("arm")], ANALYSIS, **named))


ASK = (
    Statistic(kind="moments", variable="age"),
    Statistic(kind="moments", variable="score", by="arm"),
    Statistic(kind="shape", variable="score"),
    Statistic(kind="comoments", variable="age", across=("score",)),
)
SUM = {"analysis": "main", "small_sites": True}
IN_A_SUM = {"secure": True, "lane": "exact", **SUM}
