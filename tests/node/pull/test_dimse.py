"""DICOM archives: TLS, large instances, hostile peers, and what is logged."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contract.errors import ConfigurationError, Unavailable
from node.intake.landing import Landing
from node.pull.archive import Wanted
from node.pull.associations import MOST_PDU_BYTES
from node.pull.dimse import DimseArchive
from node.pull.jobs import Jobs
from node.pull.listener import Listener
from node.pull.question import Question
from node.pull.reception import Storage
from node.pull.run import Pace, Run
from node.pull.settings import DicomArchive
from node.pull.states import StudyState
from tests.node.certificates import Authority
from tests.node.orthanc import Orthanc, needs_orthanc, start_orthanc, stop_orthanc
from tests.node.pull.conftest import Node, secrets
from tests.node.pull.making import Study
from tests.node.pull.test_dicomweb import Kept, reception
from tests.ports import free_port

BIG = Study(5, ("CT", "OT"), 3, side=700)
"""Instances of some 980 kB: four PDUs or more."""


def settings(orthanc: Orthanc, **more: object) -> DicomArchive:
    """Return the archive's table."""
    table = {"kind": "dicom", "host": "127.0.0.1", "port": orthanc.dicom_port}
    return DicomArchive.model_validate({**table, "ae_title": orthanc.aet, **more})


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, int]]:
    """An archive with large instances, and our port."""
    running = start_orthanc(tmp_path_factory.mktemp("big") / "orthanc")
    try:
        for file in BIG.files():
            running.upload(file)
        port = free_port()
        running.modality("wardgate", "WARDGATE", port)
        yield running, port
    finally:
        stop_orthanc(running)


@needs_orthanc
@pytest.mark.parametrize("retrieve", ["get", "move"])
def test_a_message_that_grows_too_large_is_cut_off_and_not_asked_for_again(
    node: Node, big: tuple[Orthanc, int], retrieve: str
) -> None:
    orthanc, port = big
    archive = settings(orthanc, retrieve=retrieve, listen_port=port, listen_host="127.0.0.1")
    jobs, landing = Jobs(node.home), Landing(node.home)
    questions = [Question(accession_number=BIG.accession)]
    job = jobs.create("pacs", "", Question(), questions, datetime.now(UTC), most_studies=9)
    storage = Storage(lambda uid: landing.writer("pull", uid), landing.held)
    limit = 600_000
    with Listener(archive, 10, limit) as listener:
        run = Run(
            jobs,
            job.id,
            lambda: DimseArchive(archive, 10, listener),
            storage,
            Pace(attempts=2, largest_instance_bytes=limit),
            sleep=lambda seconds: None,
        )
        run.find()
        run.fetch()
        counts = jobs.counts(job.id)
        assert counts.studies == {StudyState.INCOMPLETE: 1}
        assert (counts.arrived, counts.missing) == (0, 6)
        assert counts.reasons == {"an instance is too large": 1}
        assert landing.count() == 0


@needs_orthanc
def test_tls_is_verified_both_ways(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    archive_certificate, archive_key = ours.certify("archive")
    our_certificate, our_key = ours.certify("node")
    port = free_port()
    orthanc = start_orthanc(
        tmp_path / "orthanc",
        DicomTlsEnabled=True,
        DicomTlsCertificate=str(archive_certificate),
        DicomTlsPrivateKey=str(archive_key),
        DicomTlsTrustedCertificates=str(ours.file),
    )
    try:
        orthanc.modality("wardgate", "WARDGATE", port, UseDicomTls=True)
        study = Study(7)
        for file in study.files():
            orthanc.upload(file)
        mine = {"tls_certificate": our_certificate, "tls_key": our_key}
        for retrieve in ("get", "move"):
            table = settings(
                orthanc,
                retrieve=retrieve,
                tls_ca=ours.file,
                listen_host="127.0.0.1",
                listen_port=port,
                **mine,
            )
            kept = Kept()
            with Listener(table, 10, 2**30) as listener:
                archive = DimseArchive(table, 10, listener)
                assert archive.test()
                (series,) = archive.series(study.uid, Question())
                found = archive.instances(study.uid, series.uid)
                archive.retrieve(Wanted(study.uid, series.uid, found), reception(kept, [*found]))
                archive.close()
            assert sorted(kept.files) == sorted(study.instance_uids())
        with pytest.raises(Unavailable, match="isn't trusted"):
            DimseArchive(settings(orthanc, tls_ca=other.file, **mine), 5).test()
        with pytest.raises(Unavailable):
            DimseArchive(settings(orthanc), 5).test()  # plain
        with pytest.raises(ConfigurationError):
            DimseArchive(settings(orthanc, tls_ca=tmp_path / "none.pem"), 5).test()
    finally:
        stop_orthanc(orthanc)


@needs_orthanc
def test_nothing_that_names_a_patient_is_logged(
    big: tuple[Orthanc, int], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    archive = DimseArchive(settings(big[0]), 10)
    questions = [Question(accession_number=BIG.accession), Question(patient_id=BIG.patient)]
    for question in questions:
        (study,) = archive.studies(question)
        (series, *_) = archive.series(study.uid, question)
        found = archive.instances(study.uid, series.uid)
        archive.retrieve(Wanted(study.uid, series.uid, found), reception(Kept(), [*found]))
    archive.close()
    output = "".join(capfd.readouterr()) + caplog.text
    for secret in [*secrets(), BIG.accession, BIG.patient, BIG.uid]:
        assert secret not in output


def test_a_pdu_that_announces_more_than_agreed_is_not_read() -> None:
    sent = 0
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        nonlocal sent
        peer, _ = listening.accept()
        with peer:
            peer.recv(65536)
            # An A-ASSOCIATE-AC whose length is all that fits in 32 bits.
            peer.sendall(b"\x02\x00\xff\xff\xff\xff")
            try:
                for _ in range(2000):
                    peer.sendall(bytes(65536))
                    sent += 65536
            except OSError:
                pass

    thread = threading.Thread(target=answer)
    thread.start()
    port = listening.getsockname()[1]
    archive = DicomArchive(kind="dicom", host="127.0.0.1", port=port, ae_title="X")
    with pytest.raises(Unavailable):
        DimseArchive(archive, 5).test()
    thread.join()
    listening.close()
    assert sent < 100 * MOST_PDU_BYTES


@pytest.mark.parametrize("garbage", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(1000)])
def test_what_speaks_no_dicom_is_said_to_be_so(garbage: bytes) -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        peer, _ = listening.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(garbage)

    thread = threading.Thread(target=answer)
    thread.start()
    port = listening.getsockname()[1]
    archive = DicomArchive(kind="dicom", host="127.0.0.1", port=port, ae_title="X")
    with pytest.raises(Unavailable, match="doesn't speak DICOM"):
        DimseArchive(archive, 5).test()
    thread.join()
    listening.close()


@pytest.mark.parametrize(
    "more",
    [
        {"ae_title": "a title that is too long"},
        {"ae_title": "BACK\\SLASH"},
        {"ae_title": ""},
        {"port": 0},
        {"retrieve": "push"},
        {"tls_certificate": "a.pem"},
        {"tls_certificate": "a.pem", "tls_key": "a.key"},
        {"retrieve": "move", "tls_ca": "ca.pem"},
        {"verify": False},
    ],
)
def test_a_table_that_cannot_work_is_refused(more: dict[str, object]) -> None:
    table = {"kind": "dicom", "host": "pacs", "port": 104, "ae_title": "PACS"}
    assert DicomArchive.model_validate(table)
    with pytest.raises(ValueError, match=r"\w"):
        DicomArchive.model_validate({**table, **more})
