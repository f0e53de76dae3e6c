"""Files that ask for one name get theirs by position, whichever process was first."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from node.deid.export.forks import Row
from node.deid.export.names import instance_name
from node.deid.export.output import Output
from node.deid.export.settling import contested, settle
from node.deid.export.work import CONTESTED, DUPLICATE, WRITTEN

FOLDER, UID = "PATIENT/STUDY/SERIES", "2.25.7"
NAME = f"{FOLDER}/{instance_name(UID, 0)}"


def write(target: Path, content: str, position: int) -> Row:
    """Do what a process does with a file."""
    output = Output(target, "0")
    output.write_part(lambda descriptor: Path(f"/proc/self/fd/{descriptor}").write_text(content))
    row: Row = {"position": position, "file": NAME}
    if output.finish(NAME):
        return row | {"outcome": WRITTEN}
    if output.same_as_part(NAME):
        output.drop_part()
        return row | {"outcome": DUPLICATE}
    part = output.set_aside(f"contested-{position}")
    return row | {"outcome": CONTESTED, "part": part, "uid": UID}


def settled(contents: list[str], order: list[int]) -> tuple[list[Row], dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        rows = [write(target, contents[index], index + 1) for index in order]
        assert contested(rows) == ({NAME} if len(set(contents)) > 1 else set())
        settle(rows, target)
        files = {
            str(path.relative_to(target)): path.read_text()
            for path in target.rglob("*")
            if path.is_file()
        }
    return sorted(rows, key=lambda row: row["position"]), files


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9), st.data())
def test_the_result_is_the_same_in_whatever_order_files_were_written(
    contents: list[str], data: st.DataObject
) -> None:
    calm = settled(contents, list(range(len(contents))))
    order = data.draw(st.permutations(range(len(contents))))
    assert settled(contents, order) == calm
    rows, files = calm
    assert sorted(files.values()) == sorted(set(contents))
    assert files[NAME] == contents[0]
    for row, content in zip(rows, contents, strict=True):
        first = contents.index(content) + 1 == row["position"]
        assert files[row["file"]] == content
        assert row["outcome"] == (WRITTEN if first else DUPLICATE)
        assert set(row) == {"position", "file", "outcome"}


def test_a_name_that_another_instance_has_is_passed_over() -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        other = target / FOLDER / instance_name(UID, 1)
        other.parent.mkdir(parents=True)
        other.write_text("another instance's")
        rows = [write(target, content, number) for number, content in enumerate("ab", 1)]
        settle(rows, target)
        assert other.read_text() == "another instance's"
        assert [row["file"] for row in rows] == [NAME, f"{FOLDER}/{instance_name(UID, 2)}"]
