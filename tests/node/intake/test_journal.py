"""The journal of intake waits while somebody else has it."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.journal import Journal


def test_a_new_journal_waits_for_another_that_is_just_being_made(tmp_path: Path) -> None:
    home = NodeHome(tmp_path)
    other = sqlite3.connect(home.root / "journal.db", check_same_thread=False)
    other.execute("CREATE TABLE held (one INTEGER)")
    other.execute("BEGIN IMMEDIATE")
    other.execute("INSERT INTO held VALUES (1)")
    done = threading.Timer(0.5, other.commit)
    done.start()
    Journal(home, Pseudonyms(b"k" * 32)).close()
    done.join()
    assert other.execute("SELECT one FROM held").fetchall() == [(1,)]
    other.close()
