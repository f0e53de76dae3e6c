"""A real Orthanc (Debian's packages orthanc and orthanc-dicomweb), one for each test that asks."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import free_port

DICOMWEB = next(
    (
        path
        for folder in ("/usr/share/orthanc/plugins", "/usr/lib/orthanc")
        for path in Path(folder).glob("libOrthancDicomWeb.so")
    ),
    None,
)
START_SECONDS = 120


def orthanc_program() -> str | None:
    """Return where Orthanc is, if it is installed."""
    found = shutil.which("Orthanc", path="/usr/sbin:/usr/bin")
    return found if DICOMWEB is not None else None


needs_orthanc = pytest.mark.skipif(orthanc_program() is None, reason="no Orthanc here")


@dataclass
class Orthanc:
    """One running Orthanc on this machine: DICOM, REST and DICOMweb."""

    aet: str
    dicom_port: int
    http_port: int
    folder: Path
    process: subprocess.Popen[bytes]
    client: httpx.Client

    @property
    def dicomweb(self) -> str:
        """The URL of its DICOMweb service."""
        return f"http://127.0.0.1:{self.http_port}/dicom-web/"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the REST API with a JSON body (or bytes); return what it says, decoded."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.client.request(method, path, content=None if body is None else content)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def upload(self, data: bytes) -> str:
        """Put one DICOM file into it; return Orthanc's identifier of the instance."""
        identifier: str = self.call("POST", "/instances", data)["ID"]
        return identifier

    def studies(self) -> list[str]:
        """Return Orthanc's identifiers of the studies that it holds."""
        found: list[str] = self.call("GET", "/studies")
        return found

    def modality(self, name: str, aet: str, port: int, **more: Any) -> None:
        """Make a DICOM peer on this machine known to it."""
        peer = {"AET": aet, "Host": "127.0.0.1", "Port": port, **more}
        self.call("PUT", f"/modalities/{name}", peer)

    def log(self) -> str:
        """Return what it has printed so far."""
        return (self.folder / "log").read_text(errors="replace")


def start_orthanc(folder: Path, aet: str = "ORTHANC", **settings: Any) -> Orthanc:
    """Start an Orthanc whose data is in ``folder``; ``settings`` are keys of its configuration."""
    program = orthanc_program()
    assert program is not None
    dicom_port, http_port = free_port(), free_port()
    configuration = {
        "Name": aet,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": aet,
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomCheckModalityHost": False,
        "SynchronousCMove": True,
        "Plugins": [str(DICOMWEB)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": True},
        **settings,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder
        )
    client = httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=60, trust_env=False)
    running = Orthanc(aet, dicom_port, http_port, folder, process, client)
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            running.call("GET", "/dicom-web/servers")
            running.call("GET", "/system")
            return running
        except httpx.HTTPError:
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                raise AssertionError(f"Orthanc didn't start: {running.log()[-2000:]}") from None
            time.sleep(0.1)


def stop_orthanc(running: Orthanc) -> None:
    """End it, and wait until it is gone."""
    running.client.close()
    running.process.terminate()
    try:
        running.process.wait(20)
    except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait()


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An Orthanc of the test's own."""
    if orthanc_program() is None:
        pytest.skip("no Orthanc here")
    running = start_orthanc(tmp_path / "orthanc")
    try:
        yield running
    finally:
        stop_orthanc(running)
