"""Groups: one lesion or case as one record; an orphan link is refused."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from contract.errors import DataError, NotFound
from node.catalog.consents import Consents
from node.catalog.group_file import group_name, read_groups, resolve
from node.catalog.groups import Group, Groups, Link
from node.catalog.releases import create_release
from node.catalog.rows import IntakeRow, MemberRow
from node.catalog.selection import AssetFilter, Selection
from node.catalog.sources import CatalogClinicalStore
from node.catalog.store import Catalog
from node.commands import group as command
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from tests.node.catalog.making import NOW, Records, asset, observation, source

KEY = Pseudonyms(b"k" * 32)
P1, P2 = KEY.subject("p1"), KEY.subject("p2")


@pytest.fixture
def filled(catalog: Catalog, home: NodeHome, trial: bytes, tmp_path: Path) -> Catalog:
    """Images of p1 and p2, a photograph of p1 by its file, observations and a table."""
    photograph = tmp_path / "lesion.jpg"
    photograph.write_bytes(b"a photograph")
    picture = asset(
        9, P1, home, kind="photograph", suffix=".jpg", modality="XC", sop_instance_uid=""
    )
    rows = [
        *(
            asset(
                n,
                P1,
                home,
                modality="DMS",
                sop_instance_uid=KEY.uid(f"1.2.{n}"),
                series_uid=KEY.uid("1.2.77"),
                study_uid=KEY.uid("1.2.88"),
            )
            for n in range(3)
        ),
        asset(5, P2, home, sop_instance_uid=KEY.uid("1.2.5")),
        picture,
    ]
    known = KEY.source_of([photograph.read_bytes()])
    catalog.record(rows, [IntakeRow(known, "accepted", "", picture.digest, NOW)])
    records = Records(
        {
            "observations": [
                observation(P1, "http://loinc.org|1"),
            ]
        }
    )
    CatalogClinicalStore(catalog).replace_source(source("followup"), records, ())
    return catalog


CSV = """group,kind,number,role,target,identifier
L 1,lesion,p1,dermoscopy,instance,1.2.0
L 1,lesion,p1,clinical photograph,file,lesion.jpg
L 1,lesion,p1,confocal,series,1.2.77
L 1,lesion,p1,follow-up,observations,followup
L 1,lesion,p1,molecular,table,trial
C 2,case,p2,ct,instance,1.2.5
"""
TOML = """
[[groups]]
name = "L 1"
kind = "lesion"
number = "p1"
links = [
  {role = "dermoscopy", instance = "1.2.0"},
  {role = "clinical photograph", file = "lesion.jpg"},
  {role = "confocal", series = "1.2.77"},
  {role = "follow-up", observations = "followup"},
  {role = "molecular", table = "trial"},
]
[[groups]]
name = "C 2"
kind = "case"
number = "p2"
links = [{role = "ct", instance = "1.2.5"}]
"""


def read(catalog: Catalog, path: Path, text: str) -> list[Group]:
    path.write_text(text)
    return resolve(read_groups(path), path.parent, catalog, KEY, NOW)


def test_csv_and_toml_name_the_same_groups(filled: Catalog, tmp_path: Path, home: NodeHome) -> None:
    one = read(filled, tmp_path / "g.csv", CSV)
    assert read(filled, tmp_path / "g.toml", TOML) == one
    groups = Groups(filled, home)
    groups.put(one)
    groups.put(one)
    assert groups.names() == sorted(one, key=lambda g: g.name)
    lesion = groups.get(group_name(KEY, P1, "L 1"))
    assert (lesion.kind, lesion.subject) == ("lesion", P1)
    assert sorted(link.role for link in lesion.links) == [
        "clinical photograph", "confocal", "confocal", "confocal", "dermoscopy", "follow-up",
        "molecular",
    ]  # fmt: skip
    assert groups.orphans() == {}


@pytest.mark.parametrize(
    "line",
    [
        "L 1,lesion,p1,ct,instance,1.2.5",  # of another subject
        "L 1,lesion,p1,ct,instance,1.2.99",
        "L 1,lesion,p1,ct,study,1.2.99",
        "L 1,lesion,p1,photograph,file,nothing.jpg",
        "L 1,lesion,p1,photograph,file,g.csv",  # here, but never taken in
        "L 1,lesion,p1,follow-up,observations,nothing",
        "C 9,case,p2,follow-up,observations,followup",  # nothing of p2 in it
        "L 1,lesion,p1,molecular,table,nothing",
        "C 9,case,p9,molecular,table,trial",  # p9 has no row
    ],
)
def test_an_orphan_link_is_refused_and_nothing_is_recorded(
    filled: Catalog, home: NodeHome, tmp_path: Path, line: str
) -> None:
    groups = Groups(filled, home)
    with pytest.raises(DataError, match="1 links are orphans"):
        groups.put(read(filled, tmp_path / "g.csv", CSV + line + "\n"))
    assert groups.names() == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "group,kind\n",
        CSV.replace("lesion,p1,dermoscopy", "wound,p1,dermoscopy"),
        CSV.replace("L 1,lesion,p1,confocal", "L 1,case,p1,confocal"),
        CSV.replace("dermoscopy,instance", "Derm\tx,instance"),
        CSV.replace(",instance,1.2.0", ",uid,1.2.0"),
        CSV.replace(",instance,1.2.0", ",instance"),
        "\x00",
    ],
)
def test_what_is_no_file_of_groups_is_refused_without_quoting_it(
    filled: Catalog, tmp_path: Path, text: str
) -> None:
    with pytest.raises(DataError) as refused:
        read(filled, tmp_path / "g.csv", text)
    assert "p1" not in str(refused.value)


def test_a_group_is_kept_under_a_name_that_tells_nothing(
    filled: Catalog, home: NodeHome, tmp_path: Path
) -> None:
    Groups(filled, home).put(read(filled, tmp_path / "g.csv", CSV))
    data = home.database.read_bytes() + Path(f"{home.database}-wal").read_bytes()
    for secret in (b"L 1", b"lesion.jpg", b"1.2.77", b"p1,"):
        assert secret not in data


def test_a_group_of_a_subject_who_withdraws_is_dropped_and_not_made_again(
    filled: Catalog, home: NodeHome, tmp_path: Path
) -> None:
    made = read(filled, tmp_path / "g.csv", CSV)
    groups = Groups(filled, home)
    groups.put(made)
    Consents(filled, home, KEY.days).withdraw([P1], NOW)
    assert [group.subject for group in groups.names()] == [P2]
    with pytest.raises(DataError, match="withdrew"):
        groups.put(made)


def test_a_release_holds_the_links_to_what_it_holds(
    filled: Catalog, home: NodeHome, tmp_path: Path
) -> None:
    Groups(filled, home).put(read(filled, tmp_path / "g.csv", CSV))
    pictures = Selection(
        assets=AssetFilter(modality=("DMS", "XC")), observations=("http://loinc.org|1",)
    )
    made = create_release(filled, home, "lesions", pictures, now=NOW)
    frame = pl.read_parquet(home.release(made.digest) / "groups.parquet")
    assert made.manifest.groups == 1
    assert set(frame["role"]) == {"dermoscopy", "clinical photograph", "confocal", "follow-up"}
    assert set(frame["subject"]) == {P1}
    index = pl.read_parquet(home.release(made.digest) / "assets.parquet")
    links = frame.filter(pl.col("target_kind") == "asset")
    assert set(links["target"]) <= set(index["digest"])
    seen = pl.read_parquet(home.release(made.digest) / "observations.parquet")
    assert seen.select("subject", "system", "code").rows() == [(P1, "http://loinc.org", "1")]
    bare = create_release(
        filled, home, "bare", pictures.model_copy(update={"groups": False}), now=NOW
    )
    assert bare.manifest.groups == 0


def test_intake_links_an_asset_to_its_group_if_both_are_of_one_subject(
    filled: Catalog, home: NodeHome
) -> None:
    new = [asset(n, subject, home) for n, subject in ((20, P1), (21, P1), (22, P2))]
    member = MemberRow("g", P1, "dermoscopy", new[0].digest, NOW, "lesion")
    filled.record(
        new,
        [],
        [
            member,
            replace(member, asset=new[1].digest, role="clinical"),
            replace(member, asset=new[2].digest, subject=P2),  # the group is of another
            replace(member, asset=new[2].digest),  # the asset is of another
            replace(member, asset="0" * 64),
        ],
    )
    (group,) = Groups(filled, home).names()
    assert (group.kind, group.subject) == ("lesion", P1)
    assert [(link.role, link.target) for link in group.links] == [
        ("clinical", new[1].digest),
        ("dermoscopy", new[0].digest),
    ]


def test_links_that_lead_nowhere_by_now_are_told(
    filled: Catalog, home: NodeHome, tmp_path: Path
) -> None:
    groups = Groups(filled, home)
    groups.put(read(filled, tmp_path / "g.csv", CSV))
    CatalogClinicalStore(filled).replace_source(source("followup", "2" * 64), Records(), ())
    name = group_name(KEY, P1, "L 1")
    assert groups.orphans() == {name: (Link("follow-up", "observations", "followup"),)}
    groups.remove(name)
    assert groups.orphans() == {}
    with pytest.raises(NotFound):
        groups.get(name)


def test_the_group_commands_do_what_they_say(
    filled: Catalog, home: NodeHome, tmp_path: Path
) -> None:
    home.pseudonym_key.touch(mode=0o600)
    home.pseudonym_key.write_bytes(b"k" * 32)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(command.app, [*arguments, "--home", str(home.root)])

    path = tmp_path / "g.csv"
    path.write_text(CSV)
    assert "2 groups with 8 links would be" in call("add", str(path), "--dry-run").output
    assert "No groups yet" in call("list").output
    assert "2 groups with 8 links recorded" in call("add", str(path)).output
    name = group_name(KEY, P1, "L 1")
    assert name in call("list").output
    shown = call("show", name).output
    assert "dermoscopy" in shown and "DMS" in shown and "table trial" in shown
    assert "All links of 2 groups lead somewhere." in call("check").output
    CatalogClinicalStore(filled).replace_source(source("followup", "2" * 64), Records(), ())
    assert isinstance(call("check").exception, DataError)
    assert "forgotten" in call("remove", name).output


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_are_groups_or_a_clear_error(tmp_path: Path, data: bytes) -> None:
    header = b"group,kind,number,role,target,identifier\n"
    for name, content in (("g.toml", data), ("g.csv", header + data)):
        (tmp_path / name).write_bytes(content)
        with suppress(DataError):
            assert read_groups(tmp_path / name)
