"""How long an intake takes to see that all of a large tree is done."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from node.catalog.store import Catalog
from node.deid.engine import Deidentifier
from node.deid.profile import load_profile
from node.deid.pseudonyms import Pseudonyms, load_key
from node.home import NodeHome
from node.intake.journal import ASK, Journal
from node.intake.run import ingest
from node.intake.walk import walk

FILES_IN_FOLDER = 1_000
_LINKS = 20_000
"""Names of one file: file systems have a limit, and names are made faster than files."""


def restart(folder: Path, files: int = 1_000_000) -> tuple[float, float]:
    """Return (seconds of a bare walk, seconds that an intake of what is done takes beyond it).

    ``folder`` gets a tree of so many names, and a node whose journal has them all.
    """
    tree = folder / "tree"
    _names(tree, files)
    home = NodeHome(folder / "node").create()
    pseudonyms = Pseudonyms(load_key(home.pseudonym_key, create=True))
    deidentifier = Deidentifier(load_profile("basic"), pseudonyms)
    with Catalog.open(home) as catalog:

        def clock() -> datetime:
            return datetime.now(UTC)

        _fill(home, pseudonyms, tree)
        start = time.perf_counter()
        count = sum(1 for _ in walk([tree]))
        bare = time.perf_counter() - start
        start = time.perf_counter()
        report = ingest([tree], home, catalog, deidentifier, clock=clock)
        taken = time.perf_counter() - start
    assert (count, report.known, report.bytes_read) == (files, files, 0)
    return bare, taken - bare


def _names(tree: Path, files: int) -> None:
    place = Path()
    for number in range(files):
        if number % FILES_IN_FOLDER == 0:
            place = tree / f"{number // FILES_IN_FOLDER:06}"
            place.mkdir(parents=True)
        if number % _LINKS == 0:
            first = place / "0"
            first.write_bytes(b"")
        else:
            (place / str(number % FILES_IN_FOLDER)).hardlink_to(first)


def _fill(home: NodeHome, pseudonyms: Pseudonyms, tree: Path) -> None:
    journal = Journal(home, pseudonyms)
    found = walk([tree])
    while group := list(islice(found, ASK)):
        files = ((one.place, one.status, b"") for one in group if one.status)
        journal.add(journal.keys(files), None)
    journal.close()
