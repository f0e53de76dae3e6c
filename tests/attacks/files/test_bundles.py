"""Bundles that were made to hurt whoever unpacks or looks at them.

Each attack first succeeds without its defence, in the same test.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from contract.errors import DocumentError
from foundation import bundle
from foundation.bundle import MANIFEST, PROJECT, Bundle

ATTACKS = (
    (
        "Path traversal by a bundle's members",
        "Snyk 2018, Zip Slip; CWE-22",
        "a member's path is of ordinary names, and leads below the folder",
        "test_a_member_is_written_nowhere_but_below_the_folder",
    ),
    (
        "Archive bomb: a thousandfold, and files that overlap",
        "Fifield 2019, A better zip bomb; CWE-409",
        "the sizes that members declare are added up before any is read",
        "test_a_small_bundle_does_not_become_a_large_one",
    ),
    (
        "Archive bomb: more than was declared",
        "CWE-409, improper handling of highly compressed data",
        "no more is read of a member than it declares; off with it: zipfile's own bound",
        "test_a_member_that_lies_about_its_size_is_refused",
    ),
    (
        "Terminal and log injection by a bundle's name",
        "CWE-150; Phillips 2003, Terminal Emulator Security Issues",
        "what a stranger says is made printable, on one line",
        "test_a_name_of_escape_sequences_reaches_no_terminal",
    ),
)


def project(version: str = "1.0") -> bytes:
    return f"""
[project]
name = "app"
version = "{version}"
[tool.flwr.app]
publisher = "mallory"
[tool.flwr.app.components]
serverapp = "app:server"
clientapp = "app:client"
""".encode()


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return a bundle whose manifest is as it should be."""
    lines = [f"{n},{hashlib.sha256(c).hexdigest()},{len(c) * 8}" for n, c in files.items()]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, MANIFEST: "\n".join(lines).encode()}.items():
            archive.writestr(name, content)
    return out.getvalue()


def test_a_member_is_written_nowhere_but_below_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = packed({PROJECT: project(), "../../planted/evil.py": b"print('here')"})
    folder = tmp_path / "recipes" / "digest"
    folder.parent.mkdir()
    with monkeypatch.context() as off:
        off.setattr(bundle, "_check_member", lambda _: None)
        Bundle.parse(hostile).write(folder)
    assert (tmp_path / "planted" / "evil.py").read_bytes() == b"print('here')"

    for name in (
        "../../planted/evil.py", "/etc/cron.d/evil", "a/../../evil", "..\\evil", ".. /evil",
        "a//evil", "./evil", "a\x00b", "C:/evil", "a/\x1b[2J",
    ):  # fmt: skip
        with pytest.raises(DocumentError):
            Bundle.parse(packed({PROJECT: project(), name: b""}))
    link = zipfile.ZipInfo("app.py")
    link.external_attr = 0o120777 << 16
    out = io.BytesIO(packed({PROJECT: project()}))
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DocumentError, match="regular files"):
        Bundle.parse(out.getvalue())


def test_a_small_bundle_does_not_become_a_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = bytes(17 * 2**20)
    hostile = packed({PROJECT: project(), **{f"{n}.bin": zeros for n in range(4)}})
    assert len(hostile) < 2**18
    with monkeypatch.context() as off:
        off.setattr(bundle, "MAX_UNPACKED_BYTES", 2**40)
        unpacked = sum(map(len, Bundle.parse(hostile).files.values()))
    assert unpacked > 250 * len(hostile)

    with pytest.raises(DocumentError, match="unpacks to over"):
        Bundle.parse(hostile)
    # Nor do members that are all of one compressed stream.
    with pytest.raises(DocumentError):
        Bundle.parse(overlapping(5, bytes(16 * 2**20)))


def overlapping(count: int, content: bytes) -> bytes:
    """Return an archive whose directory has so many members of one stream."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.bin", content)
        [first] = archive.filelist
        for number in range(1, count):
            again = zipfile.ZipInfo(f"{number}.bin")
            for name in ("header_offset", "file_size", "compress_size", "CRC", "compress_type"):
                setattr(again, name, getattr(first, name))
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
    return out.getvalue()


def test_a_member_that_lies_about_its_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory says one byte; the stream has 16 MiB.

    Off are two: the product's bound of what it reads, and that of Python's own zipfile.
    """
    content = bytes(16 * 2**20)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.bin", content)
        archive.filelist[0].file_size = 1
    hostile = out.getvalue()
    with zipfile.ZipFile(io.BytesIO(hostile)) as archive:
        assert archive.infolist()[0].file_size == 1
    read = zipfile.ZipExtFile.read

    def unpacked(*, bounded: bool) -> int:
        """Parse it; return the most that was in memory of a member."""
        most = 0

        def counted(self: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
            nonlocal most
            if not bounded:
                self._left, n = 2**40, -1  # type: ignore[attr-defined]
            found = read(self, n)
            most = max(most, len(found))
            return found

        with monkeypatch.context() as counting:
            counting.setattr(zipfile.ZipExtFile, "read", counted)
            with pytest.raises(DocumentError):
                Bundle.parse(hostile)
        return most

    assert unpacked(bounded=False) == len(content)
    assert unpacked(bounded=True) <= 2


def test_a_name_of_escape_sequences_reaches_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = packed({PROJECT: project(r"1.0\u001b[2J\nApproved by the steward.")})
    with monkeypatch.context() as off:
        off.setattr(bundle, "printable", lambda text, *_: text)
        assert "\x1b[2J\nApproved" in Bundle.parse(hostile).version

    assert Bundle.parse(hostile).version.isprintable()
