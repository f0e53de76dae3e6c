"""Whatever is done to the ledger shows, and whatever was acknowledged stays."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import merkle
from contract.errors import LedgerError, NotFound, StorageError
from node.gate.ledger import (
    GENESIS,
    Entry,
    Head,
    Ledger,
    book,
    examine,
    format_line,
    parse_line,
    read_entries,
    verify,
)
from node.gate.ledger.index import SEGMENT

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]

APPENDER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from node.gate.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
who, number = sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for n in range(number):
    head = ledger.append("notice", {"who": who, "n": n, "fill": "x" * (n % 700)}, datetime.now(UTC))
    print(head.sequence, head.hash, flush=True)
"""


def appender(folder: Path, who: str, number: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(folder), who, str(number)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ledger of ten entries."""
    ledger = Ledger(tmp_path / "ledger")
    for number in range(10):
        ledger.append("notice", {"number": number}, NOW + timedelta(seconds=number))
    ledger.close()
    return tmp_path / "ledger"


def lines(folder: Path) -> list[bytes]:
    return (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)


def put(folder: Path, changed: list[bytes]) -> None:
    (folder / "ledger.jsonl").write_bytes(b"".join(changed))


def test_entries_come_back_in_order_with_times_and_a_chain(folder: Path) -> None:
    entries = list(read_entries(folder))
    assert [e.body["number"] for e in entries] == list(range(10))
    assert [e.sequence for e in entries] == list(range(10))
    assert entries[0].previous == GENESIS
    assert [e.previous for e in entries[1:]] == [e.hash for e in entries[:-1]]
    assert verify(folder) == Head(9, entries[-1].hash)


def test_the_files_are_their_owners_alone(folder: Path) -> None:
    ledger = Ledger(folder)
    digest = ledger.keep_payload(b"payload")
    for path in (folder / "ledger.jsonl", folder / "payloads" / digest):
        assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def edited(found: list[bytes]) -> list[bytes]:
    return [*found[:4], found[4].replace(b'"number":4', b'"number":7'), *found[5:]]


TAMPERINGS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "edited": edited,
    "edited in white space": lambda found: [*found[:4], b" " + found[4], *found[5:]],
    "first edited": lambda found: [found[0].replace(b":0}", b":1}"), *found[1:]],
    "reordered": lambda found: [*found[:4], found[5], found[4], *found[6:]],
    "one deleted": lambda found: [*found[:4], *found[5:]],
    "first deleted": lambda found: found[1:],
    "one inserted": lambda found: [*found[:4], found[4], *found[4:]],
    "empty line": lambda found: [*found[:4], b"\n", *found[4:]],
    "cut within a line in the middle": lambda found: [*found[:4], found[4][:20], *found[5:]],
    "zeros": lambda found: [*found[:4], b"\0" * len(found[4]), *found[5:]],
    "not an object": lambda found: [*found[:4], b"[]\n", *found[5:]],
}


@pytest.mark.parametrize("how", TAMPERINGS)
def test_a_changed_ledger_neither_verifies_nor_opens(folder: Path, how: str) -> None:
    put(folder, TAMPERINGS[how](lines(folder)))
    with pytest.raises(LedgerError):
        verify(folder)
    with pytest.raises(LedgerError):
        Ledger(folder)


def test_a_rewritten_last_entry_is_seen_by_whoever_knows_the_head(folder: Path) -> None:
    old = verify(folder)
    found = lines(folder)
    put(folder, [*found[:9], found[9].replace(b'"number":9', b'"number":7')])
    ledger = Ledger(folder)
    assert not ledger.holds(old.sequence, old.hash)
    assert ledger.holds(8, list(read_entries(folder))[8].hash)


def test_an_older_copy_put_back_is_seen_by_whoever_knows_a_later_head(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "backup")
    ledger = Ledger(folder)
    old = ledger.head
    for number in range(3):
        ledger.append("answer", {"number": number}, NOW)
    seen = ledger.head
    ledger.close()
    restored = Ledger(tmp_path / "backup")
    assert restored.holds(old.sequence, old.hash)
    assert not restored.holds(seen.sequence, seen.hash)
    # Going on from the old copy to the same length doesn't help.
    for number in range(5):
        restored.append("answer", {"number": number + 100}, NOW)
    assert not restored.holds(seen.sequence, seen.hash)
    assert restored.holds(-1, "") and not restored.holds(99, GENESIS)


@given(st.integers(1, 60))
def test_a_torn_last_line_is_dropped_and_the_chain_goes_on(cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "ledger"
        first = Ledger(folder)
        for number in range(3):
            first.append("notice", {"number": number}, NOW)
        first.close()
        found = lines(folder)
        put(folder, [*found[:2], found[2][:-cut]])
        assert verify(folder).sequence == 1
        ledger = Ledger(folder)
        assert ledger.head.sequence == 1
        assert ledger.append("notice", {"number": 5}, NOW).sequence == 2
        ledger.close()
        assert [e.body["number"] for e in read_entries(folder)] == [0, 1, 5]


def test_a_ledger_that_is_cut_while_it_is_open_takes_no_more(folder: Path) -> None:
    ledger = Ledger(folder)
    put(folder, lines(folder)[:5])
    with pytest.raises(LedgerError, match="cut while it was open"):
        ledger.append("answer", {}, NOW)


def test_a_clock_that_goes_backwards_is_recorded_as_it_is(folder: Path) -> None:
    ledger = Ledger(folder)
    ledger.append("notice", {}, NOW - timedelta(days=400))
    times = [datetime.fromisoformat(e.time) for e in read_entries(folder)]
    assert times[-1] == NOW - timedelta(days=400) < times[0]
    assert verify(folder).sequence == 10


def test_numbers_that_are_none_are_not_written(folder: Path) -> None:
    ledger = Ledger(folder)
    with pytest.raises(ValueError, match="JSON"):
        ledger.append("notice", {"x": float("nan")}, NOW)
    with pytest.raises(LedgerError, match="too long"):
        ledger.append("notice", {"x": "y" * 2**20}, NOW)
    assert ledger.append("notice", {}, NOW).sequence == 10
    assert verify(folder).sequence == 10


@given(st.binary(max_size=60))
def test_no_line_of_a_stranger_raises_anything_but_a_ledger_error(line: bytes) -> None:
    with pytest.raises(LedgerError):
        parse_line(line, 0, GENESIS)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers(), max_size=4))
def test_an_entrys_line_is_one_line_and_comes_back(body: dict[str, object]) -> None:
    line = format_line(3, NOW, "notice", body, GENESIS)
    assert b"\n" not in line
    entry = parse_line(line, 3, GENESIS)
    assert (entry.body, entry.kind, entry.time) == (body, "notice", NOW.isoformat())
    for expected, previous in ((2, GENESIS), (3, "1" * 64)):
        with pytest.raises(LedgerError):
            parse_line(line, expected, previous)


# ---- payloads ----------------------------------------------------------------------------------


def test_a_payload_that_was_edited_is_seen(folder: Path) -> None:
    ledger = Ledger(folder)
    digest = ledger.keep_payload(b"what left")
    ledger.append("answer", {"payload": digest, "kept": [digest]}, NOW)
    assert ledger.payload(digest) == b"what left"
    verify(folder)
    (folder / "payloads" / digest).write_bytes(b"what else")
    with pytest.raises(LedgerError, match="changed"):
        ledger.payload(digest)
    with pytest.raises(LedgerError, match="changed"):
        verify(folder)
    (folder / "payloads" / digest).unlink()
    with pytest.raises(LedgerError, match="removed"):
        verify(folder)


def test_a_payload_that_is_not_kept_is_not_found(folder: Path) -> None:
    with pytest.raises(NotFound):
        Ledger(folder).payload("0" * 64)


# ---- threads, processes, crashes ---------------------------------------------------------------


def test_threads_append_each_entry_once(folder: Path) -> None:
    ledger = Ledger(folder)
    heads: list[Head] = []

    def work(who: int) -> None:
        for n in range(20):
            heads.append(ledger.append("notice", {"who": who, "n": n}, NOW))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(h.sequence for h in heads) == list(range(10, 90))
    assert verify(folder).sequence == 89


def test_two_processes_append_at_once_and_the_chain_holds(folder: Path) -> None:
    number = 150
    processes = [appender(folder, who, number) for who in ("a", "b")]
    for process in processes:
        go(process)
    acknowledged = {}
    for process in processes:
        output, _ = process.communicate(timeout=60)
        for line in output.splitlines():
            sequence, hash_ = line.split()
            acknowledged[int(sequence)] = hash_
    entries = {e.sequence: e for e in read_entries(folder)}
    assert len(entries) == 10 + 2 * number
    assert {s: entries[s].hash for s in acknowledged} == acknowledged
    for who in ("a", "b"):
        own = [e.body["n"] for e in entries.values() if e.body.get("who") == who]
        assert own == list(range(number))
    assert verify(folder).sequence == 9 + 2 * number


@pytest.mark.parametrize("after", [1, 7, 40])
def test_every_entry_that_was_acknowledged_outlives_a_kill(folder: Path, after: int) -> None:
    process = appender(folder, "a", 100_000)
    go(process)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.readlines()
    process.wait()
    ledger = Ledger(folder)
    entries = {e.sequence: e.hash for e in read_entries(folder)}
    for line in acknowledged:
        if line.endswith("\n"):
            sequence, hash_ = line.split()
            assert entries[int(sequence)] == hash_
    assert ledger.append("notice", {}, NOW).sequence == len(entries)
    assert verify(folder).sequence == len(entries)


@pytest.mark.parametrize("written", [0, 1, 30])
def test_a_full_disk_leaves_no_half_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    ledger = Ledger(folder)
    before = (folder / "ledger.jsonl").read_bytes()
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if not written:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:written])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageError, match="full"):
            ledger.append("answer", {}, NOW)
    assert (folder / "ledger.jsonl").read_bytes() == before
    assert ledger.append("answer", {}, NOW).sequence == 10
    assert verify(folder).sequence == 10


def test_an_entry_whose_sync_failed_is_taken_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(folder)
    before = (folder / "ledger.jsonl").read_bytes()

    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="Input/output"):
            ledger.append("answer", {}, NOW)
    assert (folder / "ledger.jsonl").read_bytes() == before
    assert ledger.append("answer", {}, NOW).sequence == 10


def test_a_ledgers_lines_are_json_that_any_tool_reads(folder: Path) -> None:
    for number, line in enumerate(lines(folder)):
        assert json.loads(line)["sequence"] == number


# ---- group commit ------------------------------------------------------------------------------

TRACED = """
import os, sys, threading
from datetime import UTC, datetime
from pathlib import Path
from node.gate.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
def work(who):
    for n in range(25):
        head = ledger.append("notice", {"who": who, "n": n}, datetime.now(UTC))
        os.write(1, b"acknowledged %d\\n" % head.sequence)
threads = [threading.Thread(target=work, args=(who,)) for who in range(8)]
os.write(1, b"begin\\n")
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def may_trace() -> bool:
    """Say whether strace is here and allowed to trace."""
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, capture_output=True)
    return done.returncode == 0


@pytest.mark.skipif(not may_trace(), reason="no process may be traced here")
def test_no_append_returns_before_its_entry_was_written_and_synced(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    subprocess.run(
        ["strace", "-f", "-y", "-s", "400000", "-e", "trace=write,fsync", "-o", str(trace),
         sys.executable, "-c", TRACED, str(tmp_path / "ledger")],
        check=True, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    entries = {json.loads(line)["sequence"] for line in lines(tmp_path / "ledger")}
    written: set[int] = set()
    synced: set[int] = set()
    acknowledged: set[int] = set()
    syncs = 0
    pending = ""
    text = trace.read_text()
    assert "begin" in text
    for line in text[text.index("begin") :].splitlines():
        if "ledger.jsonl>" in line and " write(" in line:
            written |= {int(n) for n in re.findall(r'\\"sequence\\":(\d+)', line)}
        elif "fsync(" in line and "ledger.jsonl>" in line:
            pending = line.split()[0] if "unfinished" in line else ""
            before = set(written)
            if not pending:
                synced, syncs = before, syncs + 1
        elif "fsync resumed" in line and line.split()[0] == pending:
            synced, syncs, pending = before, syncs + 1, ""
        elif found := re.search(r"acknowledged (\d+)", line):
            assert int(found[1]) in synced
            acknowledged.add(int(found[1]))
    assert acknowledged == entries == set(range(200))
    assert 0 < syncs < 200, "entries of several threads share a sync"


def test_what_several_threads_wait_for_is_written_in_one_piece(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(folder)
    written: list[int] = []
    real, real_sync = os.write, os.fsync
    first, go_on = threading.Event(), threading.Event()

    def write(descriptor: int, data: bytes) -> int:
        written.append(bytes(data).count(b"\n"))
        return real(descriptor, data)

    def sync(descriptor: int) -> None:
        first.set()
        assert go_on.wait(60)
        real_sync(descriptor)

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(os, "fsync", sync)
    heads: list[Head] = []
    threads = [
        threading.Thread(target=lambda: heads.append(ledger.append("notice", {}, NOW)))
        for _ in range(9)
    ]
    threads[0].start()
    assert first.wait(60)
    for thread in threads[1:]:
        thread.start()
    while len(ledger._queue) < 8:
        time.sleep(0.01)
    assert not heads, "nobody's append returns before the sync"
    go_on.set()
    for thread in threads:
        thread.join()
    assert written == [1, 8]
    assert sorted(h.sequence for h in heads) == list(range(10, 19))
    assert verify(folder).sequence == 18


def test_a_write_that_fails_fails_for_all_that_were_in_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(folder)
    before = (folder / "ledger.jsonl").read_bytes()
    errors: list[BaseException] = []
    barrier = threading.Barrier(6)

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def work() -> None:
        barrier.wait()
        try:
            ledger.append("answer", {}, NOW)
        except StorageError as error:
            errors.append(error)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(errors) == 6
    assert (folder / "ledger.jsonl").read_bytes() == before
    assert ledger.append("answer", {}, NOW).sequence == 10
    assert ledger.root(11) == root_of(folder)


CROWD = """
import sys, threading
from datetime import UTC, datetime
from pathlib import Path
from node.gate.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
def work(who):
    for n in range(10_000):
        head = ledger.append("notice", {"who": who, "n": n}, datetime.now(UTC))
        sys.stdout.write(f"{head.sequence} {head.hash}\\n")
        sys.stdout.flush()
for who in range(8):
    threading.Thread(target=work, args=(who,)).start()
"""


@pytest.mark.parametrize("after", [1, 60])
def test_every_entry_that_any_thread_was_told_of_outlives_a_kill(folder: Path, after: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CROWD, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.readlines()
    process.wait()
    ledger = Ledger(folder)
    entries = {e.sequence: e.hash for e in read_entries(folder)}
    told = [re.fullmatch(r"(\d+) ([0-9a-f]{64})\n", line) for line in acknowledged]
    assert sum(1 for line in told if line) >= after - 1
    assert all(entries[int(line[1])] == line[2] for line in told if line)
    ledger.append("notice", {}, NOW)
    assert ledger.root(len(entries) + 1) == root_of(folder)


# ---- the tree and its index --------------------------------------------------------------------


def root_of(folder: Path) -> bytes:
    """The root, from the lines alone."""
    tree = merkle.Tree()
    for line in lines(folder):
        tree.append(merkle.leaf_hash(line.removesuffix(b"\n")))
    return tree.root()


def grow(folder: Path, count: int) -> None:
    """Write many entries without waiting for a disk."""
    found = lines(folder) if (folder / "ledger.jsonl").exists() else []
    previous = hashlib.sha256(found[-1].rstrip(b"\n")).hexdigest() if found else GENESIS
    with (folder / "ledger.jsonl").open("ab") as file:
        for number in range(len(found), len(found) + count):
            line = format_line(number, NOW, "notice", {"number": number}, previous)
            previous = hashlib.sha256(line).hexdigest()
            file.write(line + b"\n")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with two checkpoints and some entries after them, as an older Wardgate left it."""
    folder = tmp_path_factory.mktemp("large") / "ledger"
    folder.mkdir(mode=0o700)
    grow(folder, 2 * SEGMENT + 10)
    return folder


@pytest.fixture
def long(large: Path, tmp_path: Path) -> Path:
    """A copy of it that was opened before."""
    shutil.copytree(large, tmp_path / "long")
    Ledger(tmp_path / "long").close()
    return tmp_path / "long"


def test_an_older_ledger_of_lines_alone_gets_its_tree_when_it_is_opened(
    large: Path, tmp_path: Path
) -> None:
    shutil.copytree(large, tmp_path / "ledger")
    before = (tmp_path / "ledger" / "ledger.jsonl").read_bytes()
    ledger = Ledger(tmp_path / "ledger")
    size = 2 * SEGMENT + 10
    assert ledger.standing().root == root_of(large)
    assert ledger.standing().size == size
    head = ledger.append("notice", {}, NOW)
    assert head.sequence == size
    for number in (0, 1, SEGMENT - 1, SEGMENT, size):
        path = ledger.inclusion_proof(number, size + 1)
        leaf = merkle.leaf_hash(ledger.line(number))
        assert merkle.inclusion_holds(leaf, number, size + 1, path, ledger.root(size + 1))
    proof = ledger.consistency_proof(5, size)
    assert merkle.consistency_holds(5, ledger.root(5), size, ledger.root(size), proof)
    assert (tmp_path / "ledger" / "ledger.jsonl").read_bytes().startswith(before)
    assert examine(tmp_path / "ledger").root == ledger.root(size + 1).hex()


def test_a_start_reads_entry_by_entry_only_what_came_after_the_last_checkpoint(
    long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    real = book.parse_line

    def counting(line: bytes, expected: int, previous: str) -> Entry:
        parsed.append(expected)
        return real(line, expected, previous)

    monkeypatch.setattr(book, "parse_line", counting)
    ledger = Ledger(long)
    assert parsed == list(range(2 * SEGMENT, 2 * SEGMENT + 10))
    assert ledger.standing().root == root_of(long)
    assert ledger.holds(17, hashlib.sha256(lines(long)[17].rstrip(b"\n")).hexdigest())


@pytest.mark.parametrize("at", [3, SEGMENT - 1, SEGMENT, SEGMENT + 5])
def test_a_change_before_a_checkpoint_is_seen_though_the_chain_was_made_to_fit(
    long: Path, at: int
) -> None:
    found = [json.loads(line) for line in lines(long)]
    found[at]["body"] = {"number": -1}
    previous = found[at]["previous"]
    rewritten = []
    for value in found[at:]:
        value["previous"] = previous
        line = json.dumps(value, separators=(",", ":")).encode()
        previous = hashlib.sha256(line).hexdigest()
        rewritten.append(line + b"\n")
    put(long, [*lines(long)[:at], *rewritten])
    with pytest.raises(LedgerError, match=r"changed before entry|was cut"):
        Ledger(long)


def test_a_ledger_shorter_than_its_checkpoint_was_cut(long: Path) -> None:
    put(long, lines(long)[: 2 * SEGMENT - 1])
    with pytest.raises(LedgerError, match=f"cut: it had {2 * SEGMENT} entries"):
        Ledger(long)


@pytest.mark.parametrize("name", ["hashes", "offsets", "segments"])
@pytest.mark.parametrize("how", ["gone", "torn", "zeros"])
def test_what_a_crash_did_to_the_index_is_mended_or_said_and_never_believed(
    long: Path, name: str, how: str
) -> None:
    path = long / "index" / name
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        keep = len(data) - len(data) // 5
        path.write_bytes(data[:keep] + (bytes(len(data) - keep) if how == "zeros" else b""))
    try:
        ledger = Ledger(long)
    except LedgerError as error:
        assert "delete its folder 'index'" in str(error)
        assert name != "segments"
        shutil.rmtree(long / "index")
        ledger = Ledger(long)
    assert ledger.standing().root == root_of(long)
    assert ledger.entry(2 * SEGMENT).body["number"] == 2 * SEGMENT


def test_a_hash_that_rotted_is_seen_when_its_entry_is_read(long: Path) -> None:
    path = long / "index" / "hashes"
    data = bytearray(path.read_bytes())
    data[32 * merkle.stored(0, 7)] ^= 1
    path.write_bytes(data)
    ledger = Ledger(long)
    with pytest.raises(LedgerError, match="entry 7 was changed"):
        ledger.entry(7)


def test_a_root_that_rotted_is_neither_signed_nor_proved_by(long: Path) -> None:
    path = long / "index" / "hashes"
    data = bytearray(path.read_bytes())
    data[32 * merkle.stored(13, 0)] ^= 1  # over both segments
    path.write_bytes(data)
    with pytest.raises(LedgerError, match="index is damaged"):
        Ledger(long)
    data[32 * merkle.stored(13, 0)] ^= 1
    data[32 * merkle.stored(3, 1)] ^= 1
    path.write_bytes(data)
    ledger = Ledger(long)
    with pytest.raises(LedgerError, match="index is damaged"):
        ledger.inclusion_proof(1, 2 * SEGMENT)
    with pytest.raises(LedgerError, match="index is damaged"):
        ledger.consistency_proof(8, 2 * SEGMENT)


def test_the_root_of_every_length_is_the_same_whoever_wrote_the_entries(folder: Path) -> None:
    ours, theirs = Ledger(folder), Ledger(folder)
    for number in range(30):
        (ours, theirs)[number % 3 == 0].append("notice", {"n": number}, NOW)
    assert ours.standing() == theirs.standing()
    tree = merkle.Tree()
    for size, line in enumerate(lines(folder), 1):
        tree.append(merkle.leaf_hash(line.rstrip(b"\n")))
        assert ours.root(size) == theirs.root(size) == tree.root()


def test_a_ledger_whose_file_is_replaced_while_it_is_open_takes_no_more(folder: Path) -> None:
    ledger = Ledger(folder)
    shutil.copy(folder / "ledger.jsonl", folder / "copy")
    (folder / "copy").replace(folder / "ledger.jsonl")
    with pytest.raises(LedgerError, match="replaced while it was open"):
        ledger.append("answer", {}, NOW)


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.characters() | st.floats(allow_nan=False, allow_infinity=False),
        max_size=4,
    )
)
def test_whatever_is_written_is_read_back(body: dict[str, object]) -> None:
    line = format_line(3, NOW, "notice", body, GENESIS)
    assert parse_line(line, 3, GENESIS).body == body


def test_a_lone_surrogate_does_not_make_the_ledger_unreadable(folder: Path) -> None:
    ledger = Ledger(folder)
    ledger.append("notice", {"text": "\ud800"}, NOW)
    ledger.close()
    assert Ledger(folder).entry(10).body["text"] == "\ud800"
    assert verify(folder).sequence == 10


# ---- the clock ---------------------------------------------------------------------------------


def test_a_clock_that_went_back_is_told_with_its_entry(folder: Path) -> None:
    ledger = Ledger(folder)
    for days in (-400, 0, -1):
        ledger.append("notice", {}, NOW + timedelta(days=days))
    found = examine(folder)
    assert [entry for entry, _ in found.went_back] == [10, 12]
    assert found.went_back[1][1] == timedelta(days=1)
