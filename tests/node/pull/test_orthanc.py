"""Fetching from a real archive: Orthanc, by C-GET, C-MOVE and DICOMweb."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime

import pydicom
import pytest

from contract.errors import Unavailable
from node.config import load_settings
from node.intake.landing import Landing
from node.pull.archive import Archive, ArchiveRefused
from node.pull.dicomweb import DicomwebClient
from node.pull.dimse import DimseArchive
from node.pull.estimate import Estimate, estimate
from node.pull.jobs import Jobs
from node.pull.listener import Listener
from node.pull.question import Question
from node.pull.reception import Reception, Storage
from node.pull.run import Pace, Run
from node.pull.settings import DicomArchive, DicomwebArchive
from node.pull.states import RequestState, StudyState
from node.pull.throttle import Throttle
from tests.node.orthanc import needs_orthanc
from tests.node.pull.conftest import ACCESSIONS, INSTANCES, STUDIES, Filled, Node, archive_table
from tests.ports import free_port

pytestmark = needs_orthanc
ways = pytest.mark.parametrize("kind", ["get", "move", "web"])
SECONDS = 20.0


@pytest.fixture
def connect(filled: Filled, kind: str) -> Iterator[Callable[[], Archive]]:
    """How to connect to the archive in one of the ways."""
    with ExitStack() as stack:
        if kind == "web":
            web = DicomwebArchive(kind="dicomweb", url=filled.orthanc.dicomweb, page=2)
            yield lambda: DicomwebClient(web, SECONDS)
            return
        dicom = DicomArchive.model_validate(
            {
                "kind": "dicom",
                "host": "127.0.0.1",
                "port": filled.orthanc.dicom_port,
                "ae_title": "ORTHANC",
                "retrieve": kind,
                "listen_host": "127.0.0.1",
                "listen_port": filled.our_port,
            }
        )
        listener = None
        if kind == "move":
            listener = stack.enter_context(Listener(dicom, SECONDS, 2**30))
        yield lambda: DimseArchive(dicom, SECONDS, listener)


def pull(
    node: Node, connect: Callable[[], Archive], filters: Question, numbers: list[str]
) -> tuple[Run, Jobs, str]:
    """Find and fetch."""
    jobs, landing = Jobs(node.home), Landing(node.home)
    questions = [filters.model_copy(update={"accession_number": n}) for n in numbers]
    job = jobs.create("pacs", "", filters, questions, datetime.now(UTC), most_studies=50)
    storage = Storage(lambda uid: landing.writer("pull", uid), landing.held)
    run = Run(jobs, job.id, connect, storage, Pace())
    run.find()
    run.fetch()
    return run, jobs, job.id


def landed(node: Node) -> list[pydicom.FileDataset]:
    """Return what is in the landing, parsed."""
    landing = Landing(node.home)
    return [pydicom.dcmread(io.BytesIO(landing.read(entry))) for entry in landing.entries()]


@ways
def test_it_shows_a_sign_of_life(connect: Callable[[], Archive], kind: str) -> None:
    archive = connect()
    expected = {"get": "C-GET", "move": "C-MOVE", "web": "QIDO-RS"}[kind]
    assert expected in archive.test()
    archive.close()


@ways
def test_studies_named_by_their_numbers_arrive_as_they_are_stored(
    node: Node, connect: Callable[[], Archive]
) -> None:
    run, jobs, name = pull(node, connect, Question(), [*ACCESSIONS, "N0"])
    counts = jobs.counts(name)
    assert counts.requests == {RequestState.FOUND: 4, RequestState.NOT_FOUND: 1}
    assert counts.studies == {StudyState.COMPLETE: 4}
    assert counts.arrived == run.progress.instances == len(INSTANCES)
    files = landed(node)
    assert sorted(str(file.SOPInstanceUID) for file in files) == sorted(INSTANCES)
    originals = {
        str(dataset.SOPInstanceUID): dataset
        for study in STUDIES
        for dataset in (pydicom.dcmread(io.BytesIO(file)) for file in study.files())
    }
    for file in files:
        original = originals[str(file.SOPInstanceUID)]
        assert file.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
        assert file.PixelData == original.PixelData
        assert file.PatientName == original.PatientName


@ways
def test_a_query_takes_the_series_that_fit_and_no_others(
    node: Node, connect: Callable[[], Archive]
) -> None:
    january = Question(
        modality="CT",
        first_date=date(2026, 1, 1),
        last_date=date(2026, 1, 31),
        study_description="THORAX*",
        body_part="CHEST",
    )
    _, jobs, name = pull(node, connect, january, [])
    assert jobs.counts(name).studies == {StudyState.COMPLETE: 2}
    found = Counter((file.AccessionNumber, file.Modality) for file in landed(node))
    assert found == {(ACCESSIONS[0], "CT"): 4, (ACCESSIONS[3], "CT"): 3}


@ways
def test_what_is_here_is_not_asked_for_again(
    node: Node, connect: Callable[[], Archive], filled: Filled
) -> None:
    landing = Landing(node.home)
    here = STUDIES[0].instance_uids()[1:]
    for uid in here:
        with landing.writer("cstore", uid) as writer:
            writer.commit()
    run, jobs, name = pull(node, connect, Question(), ACCESSIONS[:1])
    assert run.progress.instances == 1
    assert jobs.counts(name).held == len(here)
    again, jobs, name = pull(node, connect, Question(), ACCESSIONS[:1])
    assert again.progress.instances == 0
    assert jobs.counts(name).held == len(here) + 1


@ways
def test_an_estimate_counts_and_fetches_nothing(node: Node, connect: Callable[[], Archive]) -> None:
    numbers = [Question(accession_number=number) for number in [*ACCESSIONS, "N0"]]
    archive = connect()
    assert estimate(archive, numbers, Question()) == Estimate(5, 1, 4, 6, len(INSTANCES), 0)
    ct = Question(modality="CT")
    assert estimate(archive, [ct], ct) == Estimate(1, 0, 3, 3, 12, 0)
    archive.close()
    assert landed(node) == []


@ways
@pytest.mark.parametrize("described", ["SCHÄDEL", "SC*EL"])
def test_a_description_may_have_any_letters_and_wildcards(
    connect: Callable[[], Archive], described: str
) -> None:
    archive = connect()
    found = list(archive.studies(Question(study_description=described)))
    archive.close()
    assert [study.uid for study in found] == [STUDIES[2].uid]


@ways
def test_an_instance_that_is_too_large_is_left_and_the_rest_comes(
    node: Node, connect: Callable[[], Archive], filled: Filled, kind: str
) -> None:
    jobs, landing = Jobs(node.home), Landing(node.home)
    questions = [Question(accession_number=ACCESSIONS[0])]
    job = jobs.create("pacs", "", Question(), questions, datetime.now(UTC), most_studies=50)
    storage = Storage(lambda uid: landing.writer("pull", uid), landing.held)
    # Every instance of this study has some 1100 bytes; none may have more than 700.
    pace = Pace(attempts=12, largest_instance_bytes=700)
    run = Run(jobs, job.id, connect, storage, pace, sleep=lambda seconds: None)
    run.find()
    run.fetch()
    counts = jobs.counts(job.id)
    assert counts.studies == {StudyState.INCOMPLETE: 1}
    assert (counts.arrived, counts.missing) == (0, 8)
    assert counts.reasons == {"an instance is too large": 1}
    assert landed(node) == []


@pytest.mark.parametrize("kind", ["get", "web"])
def test_bytes_come_no_faster_than_allowed(connect: Callable[[], Archive]) -> None:
    taken: list[int] = []

    class Counted(Throttle):
        def received(self, size_bytes: int) -> None:
            taken.append(size_bytes)
            super().received(size_bytes)

    class Sink:
        size = 0

        def write(self, data: bytes | bytearray | memoryview) -> None:
            self.size += len(data)

        def commit(self) -> None:
            sizes.append(self.size)

        def __enter__(self) -> Sink:
            return self

        def __exit__(self, *error: object) -> None:
            pass

    sizes: list[int] = []
    slept: list[float] = []
    archive = connect()
    study = STUDIES[0]
    (series, *_) = archive.series(study.uid, Question())
    instances = archive.instances(study.uid, series.uid)
    from node.pull.archive import Wanted

    reception = Reception(
        instances,
        storage=Storage(lambda uid: Sink(), lambda uids: set()),
        throttle=Counted(0, 1000, lambda: 0.0, slept.append),
        largest_bytes=2**30,
        stopping=lambda: False,
        observe=lambda count, size: None,
    )
    archive.retrieve(Wanted(study.uid, series.uid, instances), reception)
    archive.close()
    assert reception.came == set(instances)
    # All bytes of the instances were metered, and they were waited for as they came.
    assert sum(taken) >= sum(sizes) - 4 * 400
    assert max(slept) == pytest.approx((sum(taken) - 1000) / 1000)


def test_an_archive_that_is_not_there_is_said_to_be_so() -> None:
    port = free_port()
    dicom = DicomArchive(kind="dicom", host="127.0.0.1", port=port, ae_title="X")
    with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
        DimseArchive(dicom, 5).test()
    web = DicomwebArchive(kind="dicomweb", url=f"http://127.0.0.1:{port}/dicom-web")
    with pytest.raises(Unavailable):
        DicomwebClient(web, 5).test()


def test_a_title_that_the_archive_doesnt_know_is_said_to_be_so(
    tmp_path: object, filled: Filled
) -> None:
    # Orthanc believes any title; an entity that doesn't rejects ours.
    from pynetdicom import AE

    entity = AE(ae_title="STRICT")
    entity.add_supported_context("1.2.840.10008.1.1")
    entity.require_calling_aet = ["KNOWN"]
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False)
    try:
        dicom = DicomArchive(kind="dicom", host="127.0.0.1", port=port, ae_title="STRICT")
        with pytest.raises(ArchiveRefused, match="doesn't know our title"):
            DimseArchive(dicom, 5).test()
        known = dicom.model_copy(update={"our_ae_title": "KNOWN"})
        with pytest.raises(ArchiveRefused, match="C-FIND or C-GET"):
            DimseArchive(known, 5).test()
    finally:
        server.shutdown()


@pytest.mark.parametrize("kind", ["move"])
def test_a_stranger_can_push_nothing_while_a_move_runs(
    connect: Callable[[], Archive], filled: Filled
) -> None:
    from pynetdicom import AE

    image = pydicom.dcmread(io.BytesIO(next(STUDIES[0].files())))
    answers: dict[str, object] = {}
    for title in ("STRANGER", "ORTHANC"):
        entity = AE(ae_title=title)
        entity.add_requested_context(image.SOPClassUID)
        association = entity.associate("127.0.0.1", filled.our_port, ae_title="WARDGATE")
        if association.is_established:
            answers[title] = association.send_c_store(image).Status
            association.release()
        else:
            answers[title] = "rejected"
    # Even the archive's title: nothing is being asked for.
    assert answers == {"STRANGER": "rejected", "ORTHANC": 0x0124}


def test_settings_are_read_and_a_bad_table_is_one_line(node: Node, filled: Filled) -> None:
    for kind in ("get", "move", "web"):
        node.settings(archive_table(filled, kind))
        assert set(load_settings(node.home).pull.archives) == {"pacs"}
