"""A new DICOMDIR for de-identified copies (PS3.3 Annex F, PS3.10 section 8.6).

Nothing of an old directory's values is copied. Its records say which files belong together and
which attributes each kind of record repeats; their values are read from the de-identified files, so
that directory and files agree in every name, UID and date. A record whose file is not there is left
out, and so is what then leads nowhere. Several directories become one.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from contract.errors import StorageError
from foundation.files import storage_errors
from node.deid import dummies
from node.deid.elements import DEFLATED_SYNTAXES, parse_meta
from node.deid.engine import Deidentifier
from node.deid.part10 import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION

NAME = "DICOMDIR"
MAX_BYTES = 256 * 2**20
_HEAD_BYTES = 64 << 10
_SYNTAX = 0x00020010
MAX_DEPTH = 8
WRITTEN = "written"
_GROUP = 0x0004
_CONTENT = 0x0040A730
_CHARSET = 0x00080005
_UNDEFINED_LENGTH = 0xFFFFFFFF
# Where the offsets of the next and the lower record are in an encoded record.
_NEXT, _LOWER = slice(8, 12), slice(30, 34)
# Type 1 keys of PS3.3 section F.5 that a profile may empty in the instance itself.
_REQUIRED = frozenset(
    Tag(keyword)
    for keyword in (
        "PatientID", "StudyDate", "StudyTime", "StudyID", "SeriesNumber", "InstanceNumber",
        "ContentDate", "ContentTime", "PresentationCreationDate", "PresentationCreationTime",
        "ContentLabel", "StructureSetLabel", "RTPlanLabel", "DoseSummationType", "DocumentTitle",
    )
)  # fmt: skip


@dataclass
class _Record:
    """A directory record: what kind it is, its values, and the records below it."""

    kind: str
    keys: Dataset
    below: dict[tuple[str, str], _Record] = field(default_factory=dict)


@dataclass(frozen=True)
class _Old:
    """A leaf of an old directory: the records from the root to it, and its file's path."""

    chain: tuple[Dataset, ...]
    path: str


def write_directory(
    directories: Sequence[Path],
    written: Mapping[str, str],
    target: Path,
    deidentifier: Deidentifier,
) -> list[str]:
    """Write ``target``/DICOMDIR; return what became of each of the old ``directories``.

    ``written`` has, by the path of an original, its de-identified file below ``target``. A
    directory none of whose files is there comes to "no-files", one that can't be read to
    "unreadable"; else "written".
    """
    root = _Record("ROOT", Dataset())
    outcomes = []
    uid = ""
    lower = {path.lower(): path for path in written}
    for path in directories:
        found = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's quote values
            try:
                old = _read(path)
                for leaf in _leaves(old, path.parent):
                    file = written.get(leaf.path) or written.get(lower.get(leaf.path.lower(), ""))
                    if file is not None:
                        _add(root, leaf, target, file)
                        found += 1
            except StorageError:
                raise
            except Exception:
                # pydicom raises whatever a stranger's directory makes it raise; the files that it
                # refers to are written all the same.
                outcomes.append("unreadable")
                continue
        if found and not uid:
            uid = str(old.file_meta.get("MediaStorageSOPInstanceUID", ""))
        outcomes.append(WRITTEN if found else "no-files")
    if root.below:
        uid = uid or dummies.DUMMY_UID
        if deidentifier.profile.settings.options.uids == "replaced":
            uid = deidentifier.pseudonyms.uid(uid)
        _write(root, uid, target / NAME)
    return outcomes


# ---- reading -------------------------------------------------------------------------------------


def _read(path: Path) -> Any:
    if path.stat().st_size > MAX_BYTES:
        raise ValueError("too large")
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    meta, _ = parse_meta(head, 132 if head[128:132] == b"DICM" else 0)
    if meta.get(_SYNTAX, b"").strip(b" \0").decode("latin-1") in DEFLATED_SYNTAXES:
        # A directory is never deflated (PS3.10 section 8.6), and pydicom inflates without limit.
        raise ValueError("deflated")
    return dcmread(path, force=True)


def _leaves(directory: Any, folder: Path) -> Iterator[_Old]:
    """Yield the leaves, by the offsets of the records or, where these are wrong, by their order."""
    items = list(directory.get("DirectoryRecordSequence") or ())
    by_offset = {item.seq_item_tell: item for item in items}
    first = directory.get("OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity", 0)
    chains = list(_by_offset(by_offset, first))
    if len(chains) < sum("ReferencedFileID" in item for item in items):
        chains = list(_by_order(items))
    for chain in chains:
        value = chain[-1].get("ReferencedFileID")
        parts = [value] if isinstance(value, str) else list(value or ())
        yield _Old(chain, os.path.normpath(str(folder.joinpath(*map(str, parts)))))


def _by_offset(records: Mapping[int, Dataset], first: int) -> Iterator[tuple[Dataset, ...]]:
    seen: set[int] = set()
    waiting: list[tuple[int, tuple[Dataset, ...]]] = [(first, ())]
    while waiting:
        offset, above = waiting.pop()
        record = records.get(offset)
        if record is None or offset in seen or len(above) >= MAX_DEPTH:
            continue
        seen.add(offset)
        chain = (*above, record)
        if "ReferencedFileID" in record:
            yield chain
        waiting.append((record.get("OffsetOfTheNextDirectoryRecord", 0) or 0, above))
        waiting.append((record.get("OffsetOfReferencedLowerLevelDirectoryEntity", 0) or 0, chain))


def _by_order(items: Sequence[Dataset]) -> Iterator[tuple[Dataset, ...]]:
    levels = {"PATIENT": 0, "STUDY": 1, "SERIES": 2}
    above: list[Dataset] = []
    for item in items:
        level = levels.get(str(item.get("DirectoryRecordType", "")), 3)
        above = above[:level]
        if "ReferencedFileID" in item:
            yield (*above, item)
        else:
            above.append(item)


# ---- making --------------------------------------------------------------------------------------


def _add(root: _Record, leaf: _Old, target: Path, file: str) -> None:
    instance = dcmread(target / file, stop_before_pixels=True)
    meta = instance.file_meta
    facts = {
        "ReferencedFileID": file.split("/"),
        "ReferencedSOPClassUIDInFile": meta.MediaStorageSOPClassUID,
        "ReferencedSOPInstanceUIDInFile": meta.MediaStorageSOPInstanceUID,
        "ReferencedTransferSyntaxUIDInFile": meta.TransferSyntaxUID,
    }
    chain = [(str(old.get("DirectoryRecordType", "")).strip(), old) for old in leaf.chain]
    if any(kind in ("", "PRIVATE") for kind, _ in chain):
        return
    here = root
    for kind, old in chain:
        key = (kind, _identity(kind, instance, file))
        there = here.below.get(key)
        if there is None:
            there = here.below[key] = _Record(kind, _keys(old, instance))
        here = there
    for keyword, value in facts.items():
        setattr(here.keys, keyword, value)


def _identity(kind: str, instance: Dataset, file: str) -> str:
    keyword = {
        "PATIENT": "PatientID",
        "STUDY": "StudyInstanceUID",
        "SERIES": "SeriesInstanceUID",
    }.get(kind)
    return file if keyword is None else str(instance.get(keyword, ""))


def _keys(old: Dataset, instance: Dataset) -> Dataset:
    """Return the attributes of a record, each as the de-identified instance has it."""
    new = Dataset()
    if _CHARSET in instance:
        new[_CHARSET] = instance[_CHARSET]
    for tag in list(old.keys()):
        if tag.group == _GROUP or tag.group % 2 or tag in (_CONTENT, _CHARSET):
            continue
        if tag in instance and not instance[tag].is_empty:
            new[tag] = instance[tag]
            continue
        kind = str(dictionary_VR(tag))[-2:] if _is_known(tag) else ""
        if kind in ("", "SQ"):
            continue
        was_empty = not old.get_item(tag).value
        if tag in _REQUIRED and not was_empty:
            new[tag] = DataElement(tag, kind, dummies.value(int(tag), kind))
        else:
            new[tag] = DataElement(tag, kind, None)
    return new


def _is_known(tag: int) -> bool:
    try:
        dictionary_VR(tag)
    except KeyError:
        return False
    return True


# ---- writing -------------------------------------------------------------------------------------


@dataclass
class _Placed:
    encoded: bytearray
    offset: int = 0


def _write(root: _Record, uid: str, path: Path) -> None:
    head = _head(uid)
    placed: list[_Placed] = []
    siblings: list[list[_Placed]] = []
    lower: list[tuple[_Placed, list[_Placed]]] = []

    def place(record: _Record) -> list[_Placed]:
        row = []
        for below in record.below.values():
            one = _Placed(_encode(below))
            placed.append(one)
            row.append(one)
            inner = place(below)
            if inner:
                lower.append((one, inner))
        siblings.append(row)
        return row

    first = place(root)
    # (0004,1200), (0004,1202) and (0004,1212) are fixed in size; the sequence's header has 12.
    start = len(head) + 12 + 12 + 10 + 12
    offset = start
    for one in placed:
        one.offset = offset
        offset += 8 + len(one.encoded)
    for row in siblings:
        for one, following in pairwise(row):
            one.encoded[_NEXT] = following.offset.to_bytes(4, "little")
    for one, inner in lower:
        one.encoded[_LOWER] = inner[0].offset.to_bytes(4, "little")
    if offset >= _UNDEFINED_LENGTH:
        raise StorageError("A DICOMDIR can't name so many files; split the folder.")
    whole = [
        head,
        _number(0x1200, b"UL", first[0].offset, 4),
        _number(0x1202, b"UL", first[-1].offset, 4),
        _number(0x1212, b"US", 0, 2),
        b"\x04\0\x20\x12SQ\0\0" + (offset - start).to_bytes(4, "little"),
    ]
    for one in placed:
        whole += [b"\xfe\xff\x00\xe0" + len(one.encoded).to_bytes(4, "little"), bytes(one.encoded)]
    with storage_errors(path):
        path.touch(mode=0o600)
        path.write_bytes(b"".join(whole))


def _head(uid: str) -> bytes:
    """Return preamble, file meta group and an empty File-set ID, which named whoever made it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    file.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(file, meta, enforce_standard=True)
    file.write(b"\x04\0\x30\x11CS\0\0")
    return bytes(file.getvalue())


def _encode(record: _Record) -> bytearray:
    keys = record.keys
    keys.OffsetOfTheNextDirectoryRecord = 0
    keys.RecordInUseFlag = 0xFFFF
    keys.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    keys.DirectoryRecordType = record.kind
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    keys.set_original_encoding(False, True, keys.get("SpecificCharacterSet", "ISO_IR 6"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_dataset(file, keys)
    return bytearray(file.getvalue())


def _number(element: int, vr: bytes, value: int, size: int) -> bytes:
    return (
        b"\x04\0"
        + element.to_bytes(2, "little")
        + vr
        + size.to_bytes(2, "little")
        + value.to_bytes(size, "little")
    )
