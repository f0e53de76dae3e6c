"""Workers: processes and a Dask cluster do what one process does, and their death loses nothing."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from contract.errors import ConfigurationError, Unavailable
from node.catalog.store import Catalog
from node.config import IntakeSettings
from node.deid.engine import Deidentifier
from node.home import NodeHome
from node.intake.crew import Executed, Processes, check_address, open_crew
from node.intake.items import Item, Setup
from node.intake.landing import Landing
from node.intake.landing_intake import LandingIntake
from node.intake.run import Intake, IntakeReport
from tests.node.intake import deadly

Take = Callable[..., IntakeReport]
Image = Callable[..., bytes]
NAME = "DOE-JANE-4711"


@pytest.fixture
def tree(source: Path, make_image: Image) -> Path:
    """40 files: 36 images, one of them twice, one that says an instance otherwise, two cut."""
    for number in range(36):
        (source / f"{number:02}.dcm").write_bytes(make_image(number))
    (source / "05-again.dcm").write_bytes(make_image(5))
    (source / "06-otherwise.dcm").write_bytes(make_image(6, SliceThickness="9"))
    for number in (40, 41):
        (source / f"{number}.dcm").write_bytes(make_image(number)[:-7])
    return source


def assert_complete(report: IntakeReport) -> None:
    assert (report.accepted, report.known) == (36, 1)
    assert report.quarantined == {"duplicate-instance": 1, "truncated": 2}


def test_processes_decide_like_one_process(
    take: Take, tree: Path, home: NodeHome, catalog: Catalog, deidentifier: Deidentifier
) -> None:
    with open_crew(IntakeSettings(), deidentifier, 2) as crew:
        dry = take(tree, crew=crew, dry_run=True)
        assert catalog.is_empty()
        report = take(tree, crew=crew)
    assert_complete(report)
    assert dry.lines() == report.lines()
    assert {row.digest for row in catalog.list_assets()} == {
        path.stem for path in (home.vault / "assets").rglob("*.dcm")
    }
    assert [path.name for path in (home.vault / "incoming").iterdir()] == ["lock"]


def test_two_intakes_of_one_tree_at_once_keep_each_file_once(
    tree: Path, home: NodeHome, catalog: Catalog, deidentifier: Deidentifier
) -> None:
    def run(reports: list[IntakeReport]) -> None:
        from node.intake.run import ingest

        with Catalog.open(home) as opened:
            reports.append(ingest([tree], home, opened, deidentifier, clock=now))

    reports: list[IntakeReport] = []
    threads = [threading.Thread(target=run, args=(reports,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.accepted for report in reports) == 36
    assert sum(report.files for report in reports) == 80
    assert len(catalog.list_assets()) == 36


def now() -> datetime:
    return datetime.now(UTC)


def test_a_file_that_kills_its_worker_is_quarantined_and_all_others_are_taken_in(
    take: Take, tree: Path, home: NodeHome, deidentifier: Deidentifier
) -> None:
    (tree / "07-deadly.dcm").write_bytes(deadly.KILLS + bytes(200))
    (tree / "30-endless.dcm").write_bytes(deadly.HANGS + bytes(200))
    crew = Processes(deidentifier, 2, file_seconds=10, take=deadly.take)
    try:
        report = take(tree, crew=crew)
    finally:
        crew.close()
    assert report.quarantined.pop("worker-died") == 2
    assert_complete(report)
    assert len(list(home.quarantine.iterdir())) == 5
    again = take(tree)
    assert (again.accepted, again.quarantined) == (0, {"not-dicom": 2})


def test_work_under_way_is_given_up_when_everything_stops(
    home: NodeHome, catalog: Catalog, deidentifier: Deidentifier
) -> None:
    landing = Landing(home)
    with landing.writer("cstore") as writer:
        writer.write(b"no DICOM file")
        entry = writer.commit()
    crew = Processes(deidentifier, 1, take=deadly.take_for_ever)
    stop, ended = threading.Event(), threading.Event()

    def give_up() -> None:
        time.sleep(1)
        stop.set()
        while not ended.wait(0.5):
            crew.kill()

    thread = threading.Thread(target=give_up)
    thread.start()
    try:
        with LandingIntake(
            home, catalog, deidentifier, landing, now, crew=crew, stop=stop.is_set
        ) as intake:
            intake.once()
            assert intake.report.files == 0
    finally:
        ended.set()
        thread.join()
        crew.close()
    assert [one.name for one in landing.entries()] == [entry.name]


@pytest.mark.slow
def test_a_worker_that_is_killed_from_outside_costs_no_file(
    take: Take, tree: Path, deidentifier: Deidentifier
) -> None:
    killed: list[int] = []
    with open_crew(IntakeSettings(), deidentifier, 2) as crew:
        assert isinstance(crew, Processes)

        def observe(report: IntakeReport) -> None:
            processes = list(crew._pool._processes)
            if processes and not killed:
                killed.append(processes[0])
                os.kill(processes[0], signal.SIGKILL)

        report = take(tree, crew=crew, observe=observe)
        take(tree, crew=crew, observe=observe)
    assert_complete(report)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path, tree: Path) -> None:
    code = (
        "import sys, time; from node.commands.ingest import *; "
        "from node.intake.crew import Processes; from node.config import IntakeSettings; "
        "from node.deid.pseudonyms import Pseudonyms; "
        "d = command_deidentifier(IntakeSettings(), Pseudonyms(bytes(32)), 'basic'); "
        "p = Processes(d, 2); list(p._pool.map(abs, range(8))); "
        "print(*p._pool._processes, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 120
    while any(map(_lives, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_lives, workers))


def test_an_interrupt_ends_workers_in_the_middle_of_a_file(deidentifier: Deidentifier) -> None:
    begun = []
    with (
        pytest.raises(KeyboardInterrupt),
        open_crew(IntakeSettings(), deidentifier, workers=1) as crew,
    ):
        assert isinstance(crew, Processes)
        pool = crew._pool
        begun = [pool.submit(os.getpid).result()]
        pool.submit(time.sleep, 3600)
        raise KeyboardInterrupt
    assert not any(_lives(pid) for pid in begun)


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def test_nothing_identified_shows_in_what_workers_are_given(
    home: NodeHome, catalog: Catalog, deidentifier: Deidentifier
) -> None:
    with Intake(home, catalog, deidentifier, now) as intake:
        setup: Setup = intake._setup
    key = home.pseudonym_key.read_bytes()
    for shown in (repr(setup), repr(Item(NAME)), f"{Item(NAME)}"):
        assert NAME not in shown
        assert str(home.root) not in shown
        assert key.hex() not in shown
    import pickle

    assert key not in pickle.dumps(setup)


@pytest.mark.parametrize(
    ("executor", "more"),
    [
        ("tcp://10.0.0.5:8786", {}),
        ("tcp://scheduler:8786", {}),
        ("tls://scheduler:8786", {}),
        ("tls://scheduler:8786", {"tls_authority": "a.pem", "tls_certificate": "c.pem"}),
        ("http://scheduler:8786", {}),
        ("threads", {}),
        ("tls://", {}),
    ],
)
def test_a_cluster_that_could_be_listened_to_is_refused(
    executor: str, more: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match=r"\[intake\] executor"):
        check_address(IntakeSettings(executor=executor, **more))


def test_a_cluster_on_this_machine_or_explicitly_allowed_may_be_plain() -> None:
    check_address(IntakeSettings(executor="tcp://127.0.0.1:8786"))
    check_address(IntakeSettings(executor="tcp://[::1]:8786"))
    check_address(IntakeSettings(executor="tcp://scheduler:8786", allow_plain_tcp=True))


# ---- Dask ----------------------------------------------------------------------------------------


@contextmanager
def cluster(folder: Path, *tls: str) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A Dask scheduler and two workers, processes of their own; give the address and these."""
    where = folder / "scheduler.json"
    environment = dict(os.environ, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1")
    protocol = "tls" if tls else "tcp"
    with ExitStack() as stack:

        def start(kind: str, *options: str) -> subprocess.Popen[bytes]:
            log = stack.enter_context((folder / f"{kind}-{len(started)}.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options, *tls],
                stdout=log,
                stderr=log,
                env=environment,
                cwd=folder,
            )
            stack.callback(process.wait, 120)
            stack.callback(process.terminate)
            started.append(process)
            return process

        started: list[subprocess.Popen[bytes]] = []
        file = ["--scheduler-file", str(where)]
        start("scheduler", "--port", "0", "--no-dashboard", "--protocol", protocol,
              "--host", "127.0.0.1", *file)  # fmt: skip
        worker = ("--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", *file)
        for _ in range(2):
            start("worker", *worker, "--protocol", protocol)
        deadline = time.monotonic() + 120
        while not where.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        import json

        yield json.loads(where.read_text())["address"], started


def test_a_dask_cluster_by_mutual_tls_does_what_one_process_does(
    take: Take, tree: Path, tmp_path: Path, deidentifier: Deidentifier
) -> None:
    tree = tree.rename(tree.with_name(NAME))
    authority, certificate, key = certificates(tmp_path)
    tls = ("--tls-ca-file", authority, "--tls-cert", certificate, "--tls-key", key)
    with cluster(tmp_path, *tls) as (address, _):
        assert address.startswith("tls://")
        settings = IntakeSettings(
            executor=address, tls_authority=authority, tls_certificate=certificate, tls_key=key
        )
        with open_crew(settings, deidentifier) as crew:
            report = take(tree, crew=crew)
        other = certificates(tmp_path / "other")
        stranger = IntakeSettings(
            executor=address, tls_authority=other[0], tls_certificate=other[1], tls_key=other[2]
        )
        with pytest.raises(Unavailable), open_crew(stranger, deidentifier):
            pass
    assert_complete(report)
    logs = b"".join(path.read_bytes() for path in tmp_path.glob("*.log"))
    assert b"distributed" in logs
    assert NAME.encode() not in logs


@pytest.mark.slow
def test_a_dask_worker_that_dies_costs_no_file(
    take: Take, tree: Path, tmp_path: Path, deidentifier: Deidentifier
) -> None:
    (tree / "07-deadly.dcm").write_bytes(deadly.KILLS + bytes(200))
    with cluster(tmp_path) as (address, _):
        from distributed import Client

        client = Client(address, set_as_default=False)
        try:
            client.wait_for_workers(2, timeout=60)
            report = take(tree, crew=Executed(client.get_executor(), 2, deadly.take))
        finally:
            client.close()
    assert report.quarantined.pop("worker-died") == 1
    assert_complete(report)


def certificates(folder: Path) -> tuple[str, str, str]:
    """An authority's certificate, and one with its key that it gave, as PEM files."""
    folder.mkdir(exist_ok=True)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("ca", "127.0.0.1")
    ]
    for index, stem in enumerate(("authority", "certificate")):
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[index])
            .issuer_name(names[0])
            .public_key(keys[index].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now() - timedelta(hours=1))
            .not_valid_after(now() + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=index == 0, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
        )
        made = builder.sign(keys[0], hashes.SHA256())
        (folder / f"{stem}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        keys[1].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return tuple(str(folder / f"{stem}.pem") for stem in ("authority", "certificate", "key"))  # type: ignore[return-value]
