"""A receiver's association served in this process, on a real port, for real senders."""

from __future__ import annotations

import io
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset

from node.home import NodeHome
from node.intake.landing import Landing
from node.receive.association import Association, Services, Tally
from node.receive.negotiation import Callers
from node.receive.room import Limits, Room
from tests.node.homes import new_home

DATA = Path(pydicom.__file__).parent / "data" / "test_files"
SENDERS = ["STORESCU", "ECHOSCU", "PYNETDICOM", "ORTHANC"]


def instance(number: int, rows: int = 16) -> Dataset:
    """A small CT instance with a UID of its own."""
    dataset = pydicom.dcmread(DATA / "CT_small.dcm")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{number}"
    dataset.Rows = dataset.Columns = rows
    dataset.PixelData = number.to_bytes(2, "little") * (rows * rows)
    return dataset


def as_file(dataset: Dataset) -> bytes:
    """The bytes of a data set's file."""
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


@pytest.fixture
def home(tmp_path: Path) -> NodeHome:
    return new_home(tmp_path / "node")


@pytest.fixture
def landing(home: NodeHome) -> Landing:
    return Landing(home)


@dataclass
class Listener:
    """Serves associations, each in a thread, and keeps what became of them."""

    services: Services
    port: int
    socket: socket.socket
    tallies: list[Tally] = field(default_factory=list)
    welcome: bool = True
    wrap: Callable[[socket.socket], socket.socket] = lambda connection: connection

    def serve(self) -> None:
        while True:
            try:
                connection, address = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection, address[0]), daemon=True).start()

    def _one(self, connection: socket.socket, address: str) -> None:
        with suppress(ssl.SSLError), self.wrap(connection) as ready:
            association = Association(ready, address, self.services, welcome=self.welcome)
            self.tallies.append(association.run())

    def ended(self, count: int = 1) -> Tally:
        """Wait until so many associations have ended; return the last one's tally."""
        until = time.monotonic() + 120
        while len(self.tallies) < count:
            assert time.monotonic() < until, self.tallies
            time.sleep(0.01)
        return self.tallies[count - 1]

    def change(self, **values: Any) -> None:
        """Serve what comes from now on otherwise."""
        self.services = replace(self.services, **values)


@pytest.fixture
def listener(landing: Landing) -> Iterator[Listener]:
    """A storage provider called W that lets the usual test tools in."""
    services = Services(
        callers=Callers.of("W", SENDERS),
        landing=landing,
        room=Room(landing, Limits(0, 1000, 2**30), time.monotonic),
        largest_pdu_bytes=131072,
        idle_seconds=20,
        least_bytes_per_second=1024,
        report=lambda calling, request: False,
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Listener(services, listening.getsockname()[1], listening)
        threading.Thread(target=made.serve, daemon=True).start()
        yield made
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def dcmtk() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a tool of DCMTK to its end."""
    if shutil.which("storescu", path="/usr/bin") is None:
        pytest.skip("no DCMTK here")

    def run(tool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [f"/usr/bin/{tool}", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run
