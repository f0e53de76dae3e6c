"""Identifiers in private elements, file meta, preamble, padding and other odd places."""

from __future__ import annotations

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from tests.corpus.patients import normal
from tests.corpus.plants import SAFE
from tests.corpus.sheet import Sheet

UNKNOWN = "ACME PACS 2.0"


def private(sheet: Sheet) -> None:
    """Fill blocks of known creators, with safe attributes too, and of an unknown one."""
    ds, p, random = sheet.dataset, sheet.patient, sheet.random
    for creator, group, element, vr, value in random.sample(SAFE, 2):
        block = ds.private_block(group, creator, create=True)
        block.add_new(element, vr, value)
        sheet.safe_private.append((sheet.number, f"{group:04X}xx{element:02X}@{creator}"))
        made = sheet.sentence(64)
        other = {0x0019: 0xF1, 0x0043: 0xF2, 0x00E1: 0xF3, 0x7053: 0xF4}[group]
        block.add_new(other, "LO", sheet.written(made.text))
        sheet.note("private, known creator", f"{group:04X}xx{other:02X}@{creator}", made)
        sheet.words.pop() if made.words else None
    block = ds.private_block(0x0099, UNKNOWN, create=True)
    place = "0099xx{:02X}@" + UNKNOWN
    category = "private, unknown creator"
    made = sheet.sentence(1024)
    block.add_new(0x01, "LT", sheet.written(made.text))
    _note(sheet, category, place.format(1), made)
    block.add_new(0x02, "LO", p.mrn)
    sheet.plant(category, place.format(2), p.mrn)
    block.add_new(0x03, "PN", f"{p.person.family.latin}^{p.person.given.latin}")
    sheet.plant(category, place.format(3), p.person.family.latin, _latin(sheet))
    block.add_new(0x04, "DA", f"{p.birth:%Y%m%d}")
    sheet.plant(category, place.format(4), f"{p.birth:%Y%m%d}")
    inner = Dataset()
    made = sheet.sentence(64)
    inner.add_new(0x00081030, "LO", sheet.written(made.text))
    _note(sheet, "private sequence", place.format(5) + "/00081030", made)
    inner.add_new(0x00100020, "LO", p.mrn)
    sheet.plant("private sequence", place.format(5) + "/00100020", p.mrn)
    block.add_new(0x05, "SQ", Sequence([inner]))
    text = f"{p.person.given.latin} {p.person.family.latin};{p.mrn};{p.phone}"
    binary = random.randbytes(37) + text.encode("ascii", "replace") + b"\0" + random.randbytes(22)
    block.add_new(0x06, "OB", binary)
    sheet.plant("private binary", place.format(6), text, _latin(sheet))
    wide = f"{p.person.native} {p.mrn}".encode("utf-16-le") + b"\0\0"
    block.add_new(0x07, "OB", wide)
    sheet.plant(
        "private binary", place.format(7), p.person.native, (normal(p.person.native), normal(p.mrn))
    )
    block.add_new(
        0x08, "UN", f"{p.person.family.latin}, {p.person.given.latin} ".encode("ascii", "replace")
    )
    sheet.plant("private binary", place.format(8), p.person.family.latin, _latin(sheet))


def text_in_safe_private(sheet: Sheet) -> None:
    """Put a name into an attribute that Table E.3.10-1 calls safe."""
    block = sheet.dataset.private_block(0x0019, "GEMS_ACQU_01", create=True)
    family = sheet.patient.person.family.latin.upper()
    block.add_new(0x9E, "LO", f"FSE-XL {family}")
    sheet.plant("private, safe attribute", "0019xx9E@GEMS_ACQU_01", family)


def file_meta(sheet: Sheet) -> None:
    """Name the hospital and the patient in the file meta group and the preamble."""
    p, ds = sheet.patient, sheet.dataset
    meta: FileMetaDataset = ds.file_meta
    if "TransferSyntaxUID" not in meta:
        return
    family = normal(p.person.family.latin)
    for tag, vr, value in (
        (0x00020013, "SH", f"{family.upper()[:10]}_1"),
        (0x00020016, "AE", p.station),
        (0x00020017, "AE", f"AE{p.station}"),
        (0x00020018, "AE", f"RX{p.station}"),
    ):
        meta[tag] = DataElement(tag, vr, value)
        token = family[:10] if tag == 0x00020013 else normal(p.station)
        sheet.plant("file meta", f"meta:{tag:08X}", value, (token,))
    meta.PrivateInformationCreatorUID = "1.2.826.0.1.3680043.10.777.1"
    meta.PrivateInformation = f"{p.person.family.latin} {p.mrn}".encode("ascii", "replace")
    sheet.plant("file meta", "meta:00020102", p.mrn, (family, normal(p.mrn)))
    if ds.preamble:
        text = f"{family} {p.mrn} {p.birth:%Y%m%d}".encode("ascii", "replace")
        ds.preamble = text.ljust(128, b"\0")[:128]
        sheet.plant("preamble", "preamble", p.mrn, (family, normal(p.mrn)))


def trailing(sheet: Sheet) -> None:
    """Use Data Set Trailing Padding, and bytes beyond the data set where there can be some."""
    p = sheet.patient
    text = f"pad {p.person.family.latin} {p.mrn} {p.national_id}".encode("ascii", "replace")
    sheet.dataset[0xFFFCFFFC] = DataElement(0xFFFCFFFC, "OB", text.ljust(100, b"\0"))
    sheet.plant("trailing padding", "FFFCFFFC", p.mrn, (*_latin(sheet), normal(p.national_id)))


def beyond(sheet: Sheet) -> None:
    """Append an element of a group past the last one, as some archives do."""
    p = sheet.patient
    sheet.after = b"\0" * 64 + f"{p.email} {p.national_id}".encode("ascii", "replace") + b"\0" * 16
    sheet.plant("trailing padding", "trailing", p.email, (normal(p.email), normal(p.national_id)))


def padding(sheet: Sheet) -> None:
    """Hide text behind the NUL that ends a value."""
    p = sheet.patient
    sheet.forget("00181030")
    sheet.forget("00204000")
    sheet.dataset[0x00181030] = DataElement(0x00181030, "LO", f"ROUTINE\0{p.mrn}")
    sheet.plant("padding of values", "00181030", p.mrn)
    ds = sheet.dataset
    ds[0x00204000] = DataElement(0x00204000, "LT", f"no finding\0\0{p.phone}")
    sheet.plant("padding of values", "00204000", p.phone, (normal(p.phone)[2:],))


def uids_in_text(sheet: Sheet, other: str) -> None:
    """Mention another file's UID in text."""
    sheet.forget("00321060")
    sheet.dataset[0x00321060] = DataElement(0x00321060, "LO", f"see {other[:58]}")
    sheet.plant("UIDs in text", "00321060", other, (normal(other)[:50],))


def _latin(sheet: Sheet) -> tuple[str, ...]:
    person = sheet.patient.person
    tokens = {normal(person.family.latin), normal(person.given.latin)}
    return tuple(t for t in tokens if len(t) >= 5) or (normal(person.given.latin),)


def _note(sheet: Sheet, category: str, place: str, made) -> None:  # type: ignore[no-untyped-def]
    for _, value, tokens in made.identifiers:
        sheet.plant(category, place, value, tokens)
