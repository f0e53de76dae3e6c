"""De-identification: files per second, beside the open tools in the same run, and memory.

``files_per_s_core`` counts CT slices of 512 x 512 x 16 bit through one de-identifier on one core,
read and written under the default profile without pixel work. ``run_files_per_s`` is the whole
command ``deid run`` with one worker, its start too. ``ratio_to_best_python`` compares the first
with the fastest Python tool on the same files. ``ratio_to_rust_two_workers`` compares ``deid run
--workers 2`` with dcmanon the fastest way it goes on two cores (one after the other, two threads or
two processes), its start not counted. ``scaling`` is two workers to one, the command's start not
counted. Files of these lie in memory where there is room, so that tools are compared, not a disk's
way with files that were just deleted. ``resident_mb`` is the highest resident memory of any process
of ``deid run`` over a multi-frame file of 4 GB.

``--score`` scores Wardgate and the peers on one corpus with planted identifiers instead, and prints
a table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.support import peers
from bench.support.federation import report
from bench.support.slices import SIDE, multi_frame, slices

COMMAND = Path(sys.executable).with_name("wardgate-node")


def in_process(source: Path, target: Path) -> float:
    """Return files per second of one de-identifier: read, de-identify, write."""
    from node.deid.engine import Deidentifier
    from node.deid.export.source import opened
    from node.deid.profile import load_profile
    from node.deid.pseudonyms import Pseudonyms

    profile = load_profile("research").with_pixels("off")
    deidentifier = Deidentifier(profile, Pseudonyms(bytes(32)))
    target.mkdir(parents=True)
    paths = sorted(str(p) for p in source.rglob("*") if p.is_file())
    deidentifier.deidentify(Path(paths[0]).read_bytes())
    start = time.perf_counter()
    for index, path in enumerate(paths):
        with opened(path) as file, (target / f"{index}.dcm").open("wb") as new:
            result = deidentifier.deidentify(memoryview(file.data))
            result.write(new.fileno(), file.descriptor if file.is_mapped else None)
    return len(paths) / (time.perf_counter() - start)


def command(source: Path, target: Path, workers: int, pixels: str = "off") -> tuple[float, float]:
    """Return (seconds, highest resident MB of any of its processes) of ``deid run``."""
    cores = "0" if workers == 1 else ",".join(map(str, range(workers)))
    arguments = ["taskset", "--cpu-list", cores, str(COMMAND), "deid", "run"]
    arguments += [str(source), str(target), "--workers", str(workers), "--pixels", pixels]
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"deid run failed: {errors.decode()[-500:]}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6


def speed(root: Path, count: int) -> tuple[dict[str, float], list[str]]:
    """Measure files per second, ours and theirs, on the same files."""
    source = root / "in"
    slices(source, count)
    few = root / "few"
    slices(few, 2)
    notes: list[str] = []
    rates: dict[str, float] = {}
    usable = []
    for peer in peers.PEERS:
        problem = peers.install(peer)
        notes += [problem] if problem else []
        usable += [] if problem else [peer]
    ours = _on_one_core(lambda: in_process(source, _new(root / "out")))
    for peer in usable:
        got = peers.run(peer, source, _new(root / "out"))
        if got["failed"]:
            notes.append(f"{peer.name}: {got['failed']:.0f} of {got['files']:.0f} files failed")
        rates[peer.name] = got["files"] / got["seconds"]
    best = max(rates[p.name] for p in usable if p.language == "Python")
    rust = next((p for p in usable if p.language == "Rust"), None)
    theirs = 0.0
    if rust is not None:
        ways = {
            way: count / peers.run(rust, source, _new(root / "out"), cores=2, way=way)["seconds"]
            for way in ("plain", "threads", "processes")
        }
        theirs = max(ways.values())
        notes += [
            f"{rust.name}, two cores, {way}: {rate:.0f} files/s" for way, rate in ways.items()
        ]
    seconds, start = {}, {}
    for workers in (1, 2):
        start[workers] = command(few, _new(root / "out"), workers)[0]
        seconds[workers] = command(source, _new(root / "out"), workers)[0]
    net = {n: (count - 2) / (seconds[n] - start[n]) for n in (1, 2)}
    notes += [f"{name}, one core: {rate:.0f} files/s" for name, rate in rates.items()]
    notes += [
        f"deid run, {n} workers, start not counted: {rate:.0f} files/s" for n, rate in net.items()
    ]
    figures = {
        "files_per_s_core": round(ours, 1),
        "run_files_per_s": round(count / seconds[1], 1),
        "run_two_workers_files_per_s": round(count / seconds[2], 1),
        "run_start_s": round(start[1], 2),
        "scaling": round(net[2] / net[1], 2),
        "ratio_to_best_python": round(ours / best, 2),
    }
    if theirs:
        figures["ratio_to_rust_two_workers"] = round(count / seconds[2] / theirs, 2)
    return figures, notes


def memory(root: Path) -> dict[str, float]:
    """Measure resident memory over a multi-frame file of 4 GB."""
    source = root / "large"
    source.mkdir()
    size = multi_frame(source / "IM0001")
    seconds, resident = command(source, root / "out-large", 1)
    written = sum(p.stat().st_size for p in (root / "out-large").rglob("*") if p.is_file())
    return {
        "resident_mb": round(resident, 1),
        "large_file_gb": round(size / 1e9, 2),
        "large_file_written_gb": round(written / 1e9, 2),
        "large_file_s": round(seconds, 1),
    }


def scores(root: Path, seed: int) -> None:
    """Score Wardgate and the peers on one corpus of planted identifiers."""
    from tests.corpus.generate import make
    from tests.corpus.score import Result, score

    key = make(root / "in", seed)
    results: dict[str, Result] = {}
    command(root / "in", root / "wardgate", 1, "ocr")
    results["wardgate"] = score(root / "in", key, root / "wardgate")
    for peer in peers.PEERS:
        problem = peers.install(peer)
        if problem:
            print(problem)
            continue
        peers.run(peer, root / "in", root / peer.name)
        results[peer.name] = score(root / "in", key, root / peer.name)
    print(f"{'':34}" + "".join(f"{name[:9]:>10}" for name in results))
    lines = [
        (section, name)
        for section in results["wardgate"].sections
        for name in (None, *sorted({n for r in results.values() for n in r.sections[section]}))
        if not (section == "conformance" and name is None)
    ]
    for section, name in lines:
        label = f"  {name}" if name else section.upper()
        cells = [f"{r.percent(section, name):.1f}" for r in results.values()]
        if name == "new errors":
            cells = [str(len(r.failures(section, name))) for r in results.values()]
        print(f"{label[:33]:34}" + "".join(f"{cell:>10}" for cell in cells))


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=2400)
    parser.add_argument("--no-memory", action="store_true", help="leave the file of 4 GB out")
    parser.add_argument("--score", action="store_true", help="score tools on a corpus instead")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    peers.CACHE.mkdir(parents=True, exist_ok=True)
    if options.score:
        with tempfile.TemporaryDirectory(prefix="bench-deid-") as folder:
            scores(Path(folder), options.seed)
        return
    with tempfile.TemporaryDirectory(prefix="bench-deid-", dir=_in_memory(options.files)) as folder:
        figures, notes = speed(Path(folder), options.files)
    if not options.no_memory:
        with tempfile.TemporaryDirectory(prefix="bench-deid-") as folder:
            figures |= memory(Path(folder))
    report(figures, [f"{options.files} CT slices of 512 x 512 x 16 bit", *notes])


def _in_memory(files: int) -> str | None:
    """Return a folder in memory if it has room for the files, twice."""
    folder = Path("/dev/shm")
    room = 3 * files * SIDE * SIDE * 2
    has_room = folder.is_dir() and shutil.disk_usage(folder).free > room
    return str(folder) if has_room else None


def _new(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _on_one_core(measure):  # type: ignore[no-untyped-def]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {0})
    try:
        return measure()
    finally:
        os.sched_setaffinity(0, cores)


if __name__ == "__main__":
    main()
