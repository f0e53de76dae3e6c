"""A full disk: nothing is half-done, nothing leaves unwritten, and freeing space suffices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.catalog.store import Catalog
from node.gate.ledger import verify
from node.home import NodeHome
from researcher import mean
from tests.end_to_end.federation import (
    PROJECT,
    Federation,
    fill,
    make_node,
    mount,
    records,
    unmount,
    write_csv,
    write_schema,
)
from tests.end_to_end.processes import eventually, run
from tests.end_to_end.test_intake import image
from tests.end_to_end.test_kills import ask_meanwhile


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str, str], Path]]:
    """Make small disks; skip where that isn't permitted."""
    made: list[Path] = []

    def make(name: str, size: str) -> Path:
        path = tmp_path / name
        why = mount(path, size)
        if why is not None:
            pytest.skip(f"no small disk can be mounted here: {why}")
        made.append(path)
        return path

    yield make
    for path in made:
        unmount(path)


@pytest.mark.slow
def test_intake_of_images_stops_with_one_line_and_goes_on_when_there_is_space(
    disk: Callable[[str, str], Path], tmp_path: Path
) -> None:
    landing = tmp_path / "landing"
    landing.mkdir()
    for number in range(40):
        (landing / f"{number:03d}.dcm").write_bytes(image(number, "Quillfeather^Zebediah"))
    small = disk("small", "8m")
    home = small / "node"
    assert run("wardgate-node", "ingest", landing / "000.dcm", "--home", home).code == 0
    ballast = fill(small, leave=600_000)
    done = run("wardgate-node", "ingest", landing, "--home", home)
    done.fails(11, "")
    ballast.unlink()
    again = run("wardgate-node", "ingest", landing, "--home", home)
    assert again.code == 0, again.errors
    with Catalog.open(NodeHome(home)) as catalog:
        assert catalog.assets_by_modality() == {"CT": 40}
    assets = list((home / "vault" / "assets").rglob("*.dcm"))
    assert len(assets) == 40
    assert not list((home / "vault").rglob(".*"))


@pytest.mark.slow
def test_intake_of_a_table_on_a_full_disk_registers_nothing(
    disk: Callable[[str, str], Path], tmp_path: Path
) -> None:
    schema = write_schema(tmp_path)
    table = write_csv(tmp_path / "t.csv", records("s", 0, few=False))
    small = disk("small", "8m")
    home = small / "node"
    assert run("wardgate-node", "release", "list", "--home", home).code == 14
    with Catalog.open(make_empty(home)):
        pass
    ballast = fill(small)
    run("wardgate-node", "ingest", table, "--schema", schema, "--home", home).fails(11, "")
    ballast.unlink()
    with Catalog.open(NodeHome(home)) as catalog:
        assert catalog.list_tables() == []
    again = run("wardgate-node", "ingest", table, "--schema", schema, "--home", home)
    assert again.code == 0, again.errors


def make_empty(home: Path) -> NodeHome:
    from node.config import create_home

    return create_home(NodeHome(home))


def test_a_full_disk_under_the_ledger_holds_an_answer_back_until_there_is_space(
    disk: Callable[[str, str], Path], federations: Callable[..., Federation]
) -> None:
    small = disk("small", "24m")
    one = federations("north", "south")
    one.homes["north"] = small / "north"
    make_node(one.homes["north"], "north")
    one.bring_up(researchers=("ana",))
    before = len(one.entries("north"))
    ballast = fill(small)
    wait = ask_meanwhile(one, minimum=2)
    eventually(lambda: any("full" in line for line in one.node("north").errors), "it says so")
    assert not [e for e in one.entries("north")[before:] if e.kind == "answer"]
    ballast.unlink()
    answer = wait()
    assert answer.answered == ("north", "south")
    assert len(one.answers("north", answer.job)) == 1
    verify(one.home("north") / "ledger")
    assert "Traceback" not in one.node("north").log


@pytest.mark.slow
def test_a_full_disk_at_the_coordinator_holds_an_upload_back_until_there_is_space(
    disk: Callable[[str, str], Path], federations: Callable[..., Federation]
) -> None:
    small = disk("small", "64m")
    one = federations("north", "south", WARDGATE_COORDINATOR_JOBS__KEEP_FREE_BYTES="0")
    one.root.mkdir(parents=True)
    one.coordinator_home.symlink_to(small)
    one.bring_up(researchers=("ana",))
    with one.connect() as ana:
        parameters = {"size": 2_000_000, "rounds": 1, "pause": 6.0}
        handle = ana.train(PROJECT, "steps", parameters, seed=1, minimum_sites=2)
        eventually(
            lambda: list((one.coordinator_home / "jobs" / handle.digest / "blobs").glob("*")),
            "the first round goes out",
        )
        for site in one.sites:
            inbox = one.home(site) / "jobs" / handle.digest / "in"
            eventually(
                lambda inbox=inbox: [p for p in inbox.glob("*") if not p.name.endswith(".part")],
                f"{site} has the model",
            )
        ballast = fill(small, leave=4_000_000)
        said = [one.coordinator, one.node("north"), one.node("south")]
        eventually(
            lambda: any("full" in s.log or "can't be written" in s.log for s in said), "it is full"
        )
        ballast.unlink()
        result = handle.result()
    assert result.answered == ("north", "south")
    one.ledgers_verify()
    for server in one.servers.values():
        assert "Traceback" not in server.log, server.log
    with one.connect() as ana:
        assert ana.statistics(PROJECT, [mean("age")]).answered == ("north", "south")
