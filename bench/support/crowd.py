"""Many nodes in one process: each with its own home, certificate, stream, gate and ledger.

Run as a process that is told on its standard input what to do next: ``prepare``, ``sign``,
``approve``, ``serve``; it prints a line when each is done, and ends with its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

THREADS = 4
"""That work for all nodes of the process; beside others' processes there are no more processors."""


def run(*arguments: str | Path) -> None:
    """Run a command of ``wardgate-node`` in this process; its last line is the error's."""
    from node.cli import application

    said = io.StringIO()
    words = list(map(str, arguments))
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            application(words[0])(words, prog_name="wardgate-node", standalone_mode=False)
    except SystemExit as ended:
        if ended.code:
            raise SystemExit(f"{words[:3]}: {said.getvalue().strip()[-300:]}") from None


def prepare(root: Path, sites: Iterable[str], declared: Iterable[str]) -> None:
    """Join, take the policy, take the table in, make its release."""
    for site in sites:
        home = ("--home", root / site)
        run("join", root / f"{site}.invitation", "--yes", *home)
        run("policy", "use", "open-research", *home)
        run("ingest", root / f"{site}.csv", "--schema", root / "schema.toml", *home)
        run("release", "create", "table", "--table", "table", *declared, *home)


async def serve(root: Path, sites: Iterable[str]) -> None:
    """Hold every site's link until cancelled."""
    from node.catalog.asked import Asked
    from node.catalog.store import Catalog
    from node.config import load_settings
    from node.home import NodeHome
    from node.link.client import ConsortiumLink
    from node.link.membership import load_membership, transport_identity
    from node.link.server import now, open_gate
    from node.work.desk import WorkDesk
    from node.work.statistics import ColumnCache

    pool = ThreadPoolExecutor(THREADS)
    links = []
    for site in sites:
        home = NodeHome(root / site)
        settings = load_settings(home)
        catalog = Catalog.open(home)
        gate = open_gate(home, catalog)
        asked = Asked(catalog.engine)
        desk = WorkDesk(home, gate, settings, ColumnCache(settings.work.column_cache_bytes))
        for row in asked.consortia():
            member = load_membership(home, asked, row, now())
            identity = transport_identity(home, row.name)
            link = ConsortiumLink(member, row.address, identity, desk, settings.link, pool, pool)
            links.append(asyncio.create_task(link.run()))
    await asyncio.gather(*links)


def main() -> None:
    """Do what the input says."""
    root, sites = Path(sys.argv[1]), sys.argv[2].split(",")
    for line in sys.stdin:
        step, *more = line.split()
        if step == "prepare":
            prepare(root, sites, more)
        elif step == "serve":
            threading.Thread(target=lambda: asyncio.run(serve(root, sites)), daemon=True).start()
        else:
            for site in sites:
                run(*line.split(), "--home", root / site)
        print("done", flush=True)


if __name__ == "__main__":
    main()
