"""A copy of the ledger for an auditor: entries, heads, rosters, and payloads if they are wanted."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from contract.errors import AlreadyExists
from foundation.files import private_folder, storage_errors, sync_folder
from node.gate.ledger.book import Ledger
from node.gate.ledger.entries import FILE

PROGRESS_ENTRIES = 50_000


def export(
    ledger: Ledger,
    target: Path,
    *,
    payloads: bool,
    progress: Callable[[int], None] = lambda entries: None,
) -> int:
    """Write the ledger as it stands now to a new folder; return the number of entries.

    The folder has the ledger's own layout, and is there whole or not at all.
    """
    if target.exists():
        raise AlreadyExists(f"{target} exists already and is not overwritten.")
    made = private_folder(target.with_name(f".{target.name}.{secrets.token_hex(4)}"))
    try:
        with storage_errors(target):
            # Heads first: those that are signed meanwhile would be of more entries.
            if (ledger.folder / "heads").is_dir():
                shutil.copytree(ledger.folder / "heads", made / "heads")
            size = ledger.standing().size
            with (made / FILE).open("wb") as file:
                for sequence in range(size):
                    file.write(ledger.line(sequence) + b"\n")
                    if sequence % PROGRESS_ENTRIES == 0:
                        progress(sequence)
                file.flush()
                os.fsync(file.fileno())
            if payloads:
                shutil.copytree(ledger.folder / "payloads", made / "payloads")
            made.rename(target)
            sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return size
