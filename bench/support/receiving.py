"""What arrives by DICOM: CT instances a second from two of DCMTK's ``storescu`` at once."""

from __future__ import annotations

import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.support.slices import slices

STORESCU = "/usr/bin/storescu"
SENDERS = 2
INSTANCES = 300
"""CT slices of 512 x 512 x 16 bit that each sender sends in a round."""
ROUNDS = 3


def receiving(root: Path, _count: int) -> tuple[dict[str, float], list[str]]:
    """Send to a whole receiver, de-identification behind it included; report the median round."""
    if not Path(STORESCU).exists():
        return {}, ["no DCMTK here, so nothing was sent"]
    folders = [root / f"sender{number}" for number in range(SENDERS)]
    slices(root / "slices", SENDERS * INSTANCES)
    files = sorted(path for path in (root / "slices").rglob("*") if path.is_file())
    for number, folder in enumerate(folders):
        folder.mkdir()
        for place, path in enumerate(files[number::SENDERS]):
            path.rename(folder / f"{place:04}.dcm")
    port = _free_port()
    home = root / "receiver"
    home.mkdir(mode=0o700)
    (home / "node.toml").write_text(
        f'[receive]\nae_title = "BENCH"\nport = {port}\ncalling = ["STORESCU"]\n'
    )
    command = [str(Path(sys.executable).with_name("wardgate-node")), "receive", "--home", str(home)]
    rates = []
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            _send(port, [folders[0]], quick=True)  # until its processes are up
            for _ in range(ROUNDS):
                began = time.perf_counter()
                _send(port, folders)
                rates.append(SENDERS * INSTANCES / (time.perf_counter() - began))
        finally:
            server.send_signal(signal.SIGTERM)
    each = ", ".join(f"{rate:.0f}" for rate in rates)
    note = f"C-STORE: {each} instances/s in {ROUNDS} rounds of {SENDERS} x {INSTANCES}"
    return {"scp_instances_per_s": round(statistics.median(rates), 1)}, [note]


def _send(port: int, folders: list[Path], *, quick: bool = False) -> None:
    senders = []
    for folder in folders:
        what = [str(folder / "0000.dcm")] if quick else ["+sd", str(folder)]
        words = [STORESCU, "-aec", "BENCH", *what[:-1], "127.0.0.1", str(port), what[-1]]
        senders.append(subprocess.Popen(words))
    for sender in senders:
        if sender.wait():
            raise RuntimeError("a sender was refused")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
