"""The whole receiver: real processes, a real Orthanc and DCMTK before it, and kill -9."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from node.catalog.store import Catalog
from node.deid.pseudonyms import Pseudonyms, load_key
from node.home import NodeHome
from node.intake.landing import Landing
from tests.end_to_end.federation import fill, mount, unmount
from tests.end_to_end.processes import Server, eventually, run
from tests.node.certificates import Authority
from tests.node.orthanc import needs_orthanc, start_orthanc, stop_orthanc
from tests.node.receive.conftest import as_file, instance
from tests.ports import free_port

STORESCU = "/usr/bin/storescu"
needs_dcmtk = pytest.mark.skipif(not Path(STORESCU).exists(), reason="no DCMTK here")


def receiver(home: NodeHome, settings: str) -> Server:
    """A receiver of this home with these lines of [receive]."""
    home.settings.write_text(settings)
    return Server(
        "receive",
        ["wardgate-node", "receive", "--verbose", "--home", str(home.root)],
        home.root.parent,
        ready="receiving",
    )


@pytest.fixture
def dicom_port() -> int:
    return free_port()


@pytest.fixture
def running(home: NodeHome, dicom_port: int) -> Iterator[Server]:
    """A receiver of DICOM called W."""
    server = receiver(
        home, f'[receive]\nae_title = "W"\nport = {dicom_port}\ncalling = ["STORESCU"]\n'
    )
    yield server
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


def send(port: int, folder: Path) -> subprocess.Popen[str]:
    """Start to send a folder by DCMTK's storescu."""
    return subprocess.Popen(
        [STORESCU, "-v", "-aec", "W", "+sd", "127.0.0.1", str(port), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def acknowledged(said: str) -> list[str]:
    """Return the names of the files that storescu was told are stored, in order."""
    names, current = [], ""
    for line in said.splitlines():
        if found := re.search(r"Sending file: (.*)", line):
            current = Path(found[1]).stem
        elif "Received Store Response (Success)" in line:
            names.append(current)
    return names


def write_instances(folder: Path, numbers: range, rows: int = 128) -> Path:
    folder.mkdir()
    for number in numbers:
        (folder / f"{number:04d}.dcm").write_bytes(as_file(instance(number, rows)))
    return folder


@needs_orthanc
def test_an_orthanc_pushes_a_study_by_dicom_and_by_dicomweb_and_asks_for_its_safety(
    home: NodeHome, dicom_port: int, tmp_path: Path
) -> None:
    web_port = free_port()
    ours = Authority(tmp_path, "hospital")
    certificate, key = ours.certify("server")
    orthanc = start_orthanc(tmp_path / "orthanc", HttpsCACertificates=str(ours.file))
    server = receiver(
        home,
        f"""
[receive]
ae_title = "W"
port = {dicom_port}
calling = ["ORTHANC@127.0.0.1"]
report_to = ["ORTHANC=127.0.0.1:{orthanc.dicom_port}"]
[receive.web]
enabled = true
port = {web_port}
tls_certificate = "{certificate}"
tls_key = "{key}"
""",
    )
    token = run("wardgate-node", "receive", "token", "add", "orthanc", "--home", home.root).out
    server.start()
    try:
        for number in range(4):
            orthanc.upload(as_file(instance(number)))
        (study,) = orthanc.studies()
        orthanc.modality("wardgate", "W", dicom_port)
        orthanc.call("POST", "/modalities/wardgate/echo", {})
        done = orthanc.call(
            "POST",
            "/modalities/wardgate/store",
            {"Resources": [study], "StorageCommitment": True, "Synchronous": True},
        )
        assert done["FailedInstancesCount"] == 0 and done["InstancesCount"] == 4
        transaction = done["StorageCommitmentTransactionUID"]

        def committed() -> bool:
            report = orthanc.call("GET", f"/storage-commitment/{transaction}")
            assert report["Status"] != "Failure"
            return bool(report["Status"] == "Success" and len(report["Success"]) == 4)

        eventually(committed, "Orthanc is told that its instances are safe")

        for number in range(4, 7):
            orthanc.upload(as_file(instance(number)))
        peer = {
            "Url": f"https://127.0.0.1:{web_port}/dicom-web/",
            "HttpHeaders": {"Authorization": f"Bearer {token.strip()}"},
        }
        orthanc.call("PUT", "/dicom-web/servers/wardgate", peer)
        body = {"Resources": [study], "Synchronous": True}
        orthanc.call("POST", "/dicom-web/servers/wardgate/stow", body)
    finally:
        server.stop()
        stop_orthanc(orthanc)
    held = Landing(home).held([f"1.2.3.4.{number}" for number in range(7)])
    assert held == {f"1.2.3.4.{number}" for number in range(7)}
    assert "STOW-RS of 'orthanc': 7 stored, 0 refused" in server.log


@needs_dcmtk
def test_what_two_senders_send_is_de_identified_behind_and_a_killed_process_is_replaced(
    home: NodeHome, running: Server, dicom_port: int, tmp_path: Path
) -> None:
    running.start()
    folders = [write_instances(tmp_path / n, range(s, s + 20)) for n, s in (("a", 0), ("b", 20))]
    (folders[0] / "bad.dcm").write_bytes(as_file(instance(99))[:-5000])
    senders = [send(dicom_port, folder) for folder in folders]
    for sender in senders:
        assert len(acknowledged(sender.communicate(timeout=120)[0])) == 20
    landing = Landing(home)
    eventually(lambda: landing.count() == 0, "the landing is empty")
    uids = [f"1.2.3.4.{number}" for number in range(40)]
    assert landing.held(uids) == set(uids)
    pseudonyms = Pseudonyms(load_key(home.pseudonym_key, create=False))
    with Catalog.open(home) as catalog:
        assert all(catalog.asset_of_instance(pseudonyms.uid(uid)) for uid in uids)
    assert "CompressedSamples" not in running.log  # the patient of pydicom's CT_small

    for pid in children(running.pid)[:2]:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: "started again" in running.log, "a killed process is replaced")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.dcm").write_bytes(as_file(instance(500)))

    def sent() -> bool:
        said = send(dicom_port, tmp_path / "c").communicate(timeout=120)[0]
        return acknowledged(said) == ["x"]

    eventually(sent, "the receiver receives again", pause=0.5)
    running.stop()
    assert running.process is not None and running.process.returncode == 0


@pytest.mark.slow
def test_associations_past_the_limit_are_rejected_for_now_and_then_taken(
    home: NodeHome, dicom_port: int
) -> None:
    lines = f'[receive]\nae_title = "W"\nport = {dicom_port}\ncalling = ["PYNETDICOM"]\n'
    server = receiver(home, lines + "max_associations = 1\n")
    server.start()
    try:
        entity = AE()
        entity.add_requested_context(Verification)
        first = entity.associate("127.0.0.1", dicom_port, ae_title="W")
        assert first.is_established
        second = entity.associate("127.0.0.1", dicom_port, ae_title="W")
        assert second.is_rejected
        assert (second.acceptor.primitive.result, second.acceptor.primitive.diagnostic) == (2, 2)
        first.release()

        def again() -> bool:
            third = entity.associate("127.0.0.1", dicom_port, ae_title="W")
            if third.is_established:
                third.release()
            return bool(third.is_released)

        eventually(again, "there is room again", pause=0.3)
    finally:
        server.stop()


@needs_dcmtk
def test_after_kill_9_every_acknowledged_instance_is_there(
    home: NodeHome, running: Server, dicom_port: int, tmp_path: Path
) -> None:
    running.start()
    folders = [write_instances(tmp_path / n, range(s, s + 150)) for n, s in (("a", 0), ("b", 150))]
    senders = [send(dicom_port, folder) for folder in folders]
    landing = Landing(home)
    uids = [f"1.2.3.4.{number}" for number in range(300)]
    eventually(lambda: len(landing.held(uids)) > 40, "a part of them has arrived")
    os.killpg(running.pid, signal.SIGKILL)
    said = [sender.communicate(timeout=120)[0] for sender in senders]
    told = [int(name) for one in said for name in acknowledged(one)]
    assert 20 < len(told) < 300
    assert landing.held(uids) >= {f"1.2.3.4.{number}" for number in told}


@needs_dcmtk
def test_on_a_full_disk_senders_are_refused_and_nothing_acknowledged_is_lost(
    dicom_port: int, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    why = mount(disk, "40m")
    if why is not None:
        pytest.skip(f"no small disk can be mounted here: {why}")
    home = NodeHome(disk / "node").create()
    # Only the disk itself stops it here, and not the receiver's own floor.
    server = receiver(
        home,
        f'[receive]\nae_title = "W"\nport = {dicom_port}\ncalling = ["STORESCU"]\n'
        "keep_free_bytes = 0\n",
    )
    server.folder = tmp_path
    server.start()
    try:
        first = write_instances(tmp_path / "a", range(3))
        assert len(acknowledged(send(dicom_port, first).communicate(timeout=120)[0])) == 3
        fill(disk, leave=100_000)
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "large.dcm").write_bytes(as_file(instance(9, rows=512)))
        said = send(dicom_port, tmp_path / "b").communicate(timeout=120)[0]
        assert acknowledged(said) == []
        assert "Refused: OutOfResources" in said
        held = Landing(home).held([f"1.2.3.4.{number}" for number in (0, 1, 2, 9)])
        assert held == {"1.2.3.4.0", "1.2.3.4.1", "1.2.3.4.2"}
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        time.sleep(0.2)
        unmount(disk)


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        pytest.param('[receive]\ncalling = ["@1.2.3.4"]\n', 3, "AE title", marks=pytest.mark.slow),
        ('[receive]\ncalling = ["A@nowhere"]\n', 3, "IP address"),
        pytest.param('[receive]\nreport_to = ["A:104"]\n', 3, "host:port", marks=pytest.mark.slow),
        pytest.param("[receive]\ndicom = false\n", 3, "both false", marks=pytest.mark.slow),
        ('[receive]\nport = 0\ntls_certificate = "/none"\n', 5, "can't be read"),
        (
            '[receive]\ndicom = false\nweb = {enabled = true, host = "0.0.0.0", port = 0}\n',
            3,
            "tls",
        ),
        ('[receive]\nport = 0\n[account]\nuser = "nobody-of-this-name"\n', 3, "doesn't exist"),
    ],
)
def test_settings_that_do_not_fit_end_it_with_one_line(
    home: NodeHome, settings: str, code: int, words: str
) -> None:
    home.settings.write_text(settings)
    run("wardgate-node", "receive", "--home", home.root).fails(code, words)


def children(parent: int) -> list[int]:
    """Return the receiving processes, oldest first."""
    path = Path(f"/proc/{parent}/task/{parent}/children")
    found = [int(pid) for pid in path.read_text().split()]
    return [pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
