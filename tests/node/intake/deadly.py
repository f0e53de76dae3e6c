"""Work that kills its worker, for files that begin with certain words. Imported by workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from node.intake.items import Item, Setup, Taken
from node.intake.taking import take_items

KILLS = b"KILLS ITS WORKER"
HANGS = b"NEVER ENDS"


def take_for_ever(setup: Setup, items: Sequence[Item], now: datetime) -> list[Taken]:
    time.sleep(600)
    return take_items(setup, items, now)


def take(setup: Setup, items: Sequence[Item], now: datetime) -> list[Taken]:
    for item in items:
        if item.place:
            head = Path(item.place).read_bytes()[:16]
            if head == KILLS:
                os.kill(os.getpid(), signal.SIGKILL)
            if head.startswith(HANGS):
                time.sleep(600)
    return take_items(setup, items, now)
