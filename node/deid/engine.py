"""De-identification of a DICOM file: a profile's actions, applied to every element of every level.

Steps, in this order (PS3.15 section E.1.1): read the whole file or refuse it; gather what its own
attributes say of the patient, the hospital and the staff; clean pixels, overlays and documents; act
on each element, in sequences too, and search every text that stays for what was gathered; say what
was done in the attributes meant for it; write the file anew, with a zeroed preamble and a file meta
group that tells nothing of where it came from.

The file is not decoded: what stays is spliced from the source (``elements``, ``parts``).
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from hashlib import blake2b

from pydicom.dataset import Dataset
from pydicom.uid import UID, MediaStorageDirectoryStorage

from node.deid import dummies, gathering
from node.deid.charsets import decode
from node.deid.dates import shift_date
from node.deid.elements import (
    DEFLATED_SYNTAXES,
    PIXEL_DATA,
    Buffer,
    Element,
    Elements,
    File,
    parse,
)
from node.deid.identifiers import Known, matcher
from node.deid.parts import Parts
from node.deid.pixel_data import Header, Outcome, clean_pixel_data, without_overlay_bits
from node.deid.pixels.image import Box, PixelSettings
from node.deid.profile import Profile
from node.deid.pseudonyms import Pseudonyms
from node.deid.reading import Unsafe
from node.deid.series import Template
from node.deid.values import Values
from node.deid.walk import DOCUMENT, PATIENT_ID, Rules, Walk
from node.deid.walk import encode as encode_element

IMPLEMENTATION_UID = "2.25.312040188316105632467325913823094672431"
IMPLEMENTATION_VERSION = "WARDGATE_1"
_ICON = 0x00880200
_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_BURNED_IN, _FEATURES, _LONGITUDINAL = 0x00280301, 0x00280302, 0x00280303
_REMOVED, _METHOD, _METHOD_CODES = 0x00120062, 0x00120063, 0x00120064
_MIME, _DOCUMENT_LENGTH = 0x00420012, 0x00420015
_HEADS = ("HEAD", "BRAIN", "SKULL", "FACE", "NECK", "ORBIT", "SINUS", "EAR", "JAW", "EYE", "")
_SHOW_FACES = {
    "CT": _HEADS,
    "MR": _HEADS,
    "PT": _HEADS,
    "NM": _HEADS,
    **dict.fromkeys(("XC", "GM", "VL", "DMS", "OP"), ("",)),
}
_MOST_CONTEXTS = 64
_MOST_DEFLATED = 1 << 30


@dataclass(frozen=True)
class Deidentified:
    """A de-identified file, and what the catalogue keeps of it."""

    parts: Parts = field(repr=False)
    source: Buffer = field(repr=False)
    """What ``parts`` are stretches of."""
    spliced: bool
    """Whether ``source`` is the buffer that was given, so that stretches count in the file."""
    subject: str
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str
    body_part: str
    laterality: str
    manufacturer: str
    device_model: str
    study_date: date | None
    """Moved as the profile moves dates; None where it removes them."""
    instance_number: str
    image_type: tuple[str, ...]
    stain: str
    magnification: float
    rows: int
    columns: int
    frames: int
    actions: Mapping[str, int]
    """Elements by what was done to them: D, Z, X, K, U or C."""
    pixels: Mapping[str, int]
    """What was done to pixels: frames, frames searched and changed, boxes blacked out."""
    boxes: Mapping[int, tuple[Box, ...]] = field(repr=False)
    """Frame, from 0: what was blacked out."""

    @property
    def data(self) -> bytes:
        """The whole file."""
        return self.parts.join(self.source)

    @property
    def pieces(self) -> Iterator[Buffer]:
        """The file's bytes, piece by piece."""
        return self.parts.pieces(self.source)

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        return self.parts.length

    def write(self, target: int, descriptor: int | None = None) -> None:
        """Write the file to the descriptor ``target``.

        ``descriptor`` is the open file that the source was mapped from, if it was.
        """
        self.parts.write(target, self.source, descriptor if self.spliced else None)


class Deidentifier:
    """Applies one profile under one node's pseudonyms. May be used for any number of files.

    ``lists`` are what the hospital knows besides: its staff, wards, addresses.
    """

    def __init__(
        self,
        profile: Profile,
        pseudonyms: Pseudonyms,
        lists: Known | None = None,
        pixel_settings: PixelSettings | None = None,
    ) -> None:
        self.profile = profile
        self.pseudonyms = pseudonyms
        self.lists = lists or Known()
        mode = profile.settings.options.pixels
        self.pixel_settings = pixel_settings or PixelSettings(mode=mode)
        self._rules = Rules(profile)
        self._contexts: OrderedDict[object, Values] = OrderedDict()
        self.template: Template | None = None
        """The file before, by which the next of its series is done."""
        self._known_before = Known()

    def __reduce__(self) -> tuple[object, ...]:
        return Deidentifier, (self.profile, self.pseudonyms, self.lists, self.pixel_settings)

    def deidentify(self, data: Buffer, known: Known | None = None) -> Deidentified:
        """Return the de-identified file; ``Unsafe`` says why there can be none.

        ``known`` is what other files say of the same patient. The same bytes under the same
        profile, key and knowledge give the same result. ``data`` must stay as it is until the
        result is written.
        """
        known = known or Known()
        try:
            return self._like_the_last(data, known) or self._deidentify(read(data), data, known)
        except Unsafe:
            raise
        except MemoryError:
            raise Unsafe("too-large") from None
        except Exception:
            # Whatever is wrong with a file's inside, nothing of it is kept or told.
            raise Unsafe("unreadable") from None

    def values(self, file: File, known: Known | None = None) -> Values:
        """Return how the values of a file's patient are treated."""
        return self._context(file, known or Known())

    @property
    def rules(self) -> Rules:
        """How elements are treated."""
        return self._rules

    def _like_the_last(self, data: Buffer, known: Known) -> Deidentified | None:
        template = self.template
        if template is None or known != self._known_before:
            return None
        walk = Walk(data, self._rules, template.values, {}, Counter())
        return template.apply(data, walk, _prologue)

    # ---- one file ------------------------------------------------------------------------------

    def _deidentify(self, file: File, data: Buffer, known: Known) -> Deidentified:
        header = Header(file)
        self._check_features(header)
        values = self._context(file, known)
        dropped, masked = self._overlays(header)
        pixels = clean_pixel_data(header, values.matcher, self.pixel_settings, masked)
        special: dict[int, Parts] = {
            id(element): pixels.elements[tag]
            for tag, element in header.elements.items()
            if tag in pixels.elements
        }
        actions: Counter[str] = Counter()
        inserted = self._declared(header, values, pixels)
        instance = self._instance(header, values, data)
        if not header.text(_SOP_INSTANCE):
            inserted[_SOP_INSTANCE] = encode_element(
                _SOP_INSTANCE, "UI", instance.encode(), file.dataset
            )
        documents = _Documents(header, values, self.profile)
        special |= documents.cleaned
        special |= self._overlay_data(header, values, dropped)
        if _ICON in header.elements:
            special |= self._icons(header, values)
        if documents.length_changed:
            inserted[_DOCUMENT_LENGTH] = _length(documents, file.dataset)
        walk = Walk(file.data, self._rules, values, special, actions, dropped)
        top = walk.top(file.dataset, inserted)
        result = self._finish(header, data, instance, values, pixels, top.parts, actions)
        alone = all(
            element.tag == PIXEL_DATA
            for element in header.elements.values()
            if id(element) in special
        )
        if self.pixel_settings.mode == "off" and alone and not dropped:
            self.template = Template.of(file, top, values, result)
            self._known_before = known
        return result

    def _finish(
        self,
        header: Header,
        data: Buffer,
        instance: str,
        values: Values,
        pixels: Outcome,
        body: Parts,
        actions: Counter[str],
    ) -> Deidentified:
        file = header.file
        syntax = pixels.transfer_syntax
        study, series = (
            values.uid(header.raw(tag)).decode().strip()[:64] for tag in (_STUDY, _SERIES)
        )
        sop_class = header.text(_SOP_CLASS) or _text(file.meta.get(0x00020002, b""))
        if not sop_class:
            raise Unsafe("missing-uid")
        parts = Parts()
        parts.put(_prologue(sop_class[:64], instance, syntax))
        source: Buffer = file.data
        if syntax in DEFLATED_SYNTAXES:
            if body.length > _MOST_DEFLATED:
                raise Unsafe("too-large")
            parts.put(_deflated(body.join(file.data)))
        else:
            parts.extend(body)
        moved = shift_date(header.text(0x00080020), values.days or 0)
        kept = self.profile.dates != "removed" and moved
        return Deidentified(
            parts=parts,
            source=source,
            spliced=file.data is data,
            subject=values.subject,
            study_uid=study,
            series_uid=series,
            sop_instance_uid=instance,
            sop_class_uid=sop_class[:64],
            modality=_word(header.text(0x00080060), 16),
            body_part=_word(self._clean(header, values, 0x00180015, "CS"), 64),
            laterality=_word(header.text(0x00200060) or header.text(0x00200062), 16),
            manufacturer=_word(self._clean(header, values, 0x00080070, "LO"), 64),
            device_model=_word(self._clean(header, values, 0x00081090, "LO"), 64),
            study_date=_date(moved) if kept else None,
            instance_number=header.text(0x00200013)[:12],
            image_type=header.texts(0x00080008),
            stain=_word(_stain(header, values), 64),
            magnification=_magnification(header),
            rows=header.number(0x00280010),
            columns=header.number(0x00280011),
            frames=max(header.number(0x00280008, 1), 1),
            actions=dict(sorted((k, n) for k, n in actions.items() if n)),
            pixels=dict(pixels.account),
            boxes=pixels.boxes,
        )

    def _instance(self, header: Header, values: Values, data: Buffer) -> str:
        for raw in (header.raw(_SOP_INSTANCE), header.file.meta.get(0x00020003, b"")):
            if raw.strip(b" \0"):
                return values.uid(raw).decode().strip()[:64]
        # Known by its content alone.
        return self.pseudonyms.uid(blake2b(memoryview(data)).hexdigest())

    def _clean(self, header: Header, values: Values, tag: int, vr: str) -> str:
        raw = header.raw(tag)
        new = values.clean(raw, vr, ())
        return _text(raw if new is None else new)

    # ---- the patient ---------------------------------------------------------------------------

    def _context(self, file: File, known: Known) -> Values:
        """Return the values of the file's patient; those of one series are the same object."""
        options = self.profile.settings.options
        found = gathering.facts(file, options)
        identifier, study = gathering.identity(file)
        key = (found, identifier, "" if identifier else study, known)
        context = self._contexts.get(key)
        if context is not None:
            self._contexts.move_to_end(key)
            return context
        pseudonyms = self.pseudonyms
        # Without an identifier, all that is known to be one subject's is one study.
        subject = (
            pseudonyms.subject(identifier) if identifier else pseudonyms.unnamed_subject(study)
        )
        everything = gathering.known(found) | known | self.lists
        days = pseudonyms.days(subject) if options.dates == "modified" else None
        replaces = options.uids == "replaced"
        finder = matcher(
            everything, days, options.dates == "kept", pseudonyms.uid if replaces else None
        )
        context = Values(everything, finder, pseudonyms, subject, days, options)
        self._contexts[key] = context
        if len(self._contexts) > _MOST_CONTEXTS:
            self._contexts.popitem(last=False)
        return context

    # ---- refusals ------------------------------------------------------------------------------

    def _check_features(self, header: Header) -> None:
        if self.profile.settings.options.visual_features != "refused":
            return
        if header.text(_FEATURES).upper() == "NO":
            return
        part = header.text(0x00180015).upper()
        shown = _SHOW_FACES.get(header.text(0x00080060).upper(), ())
        if header.text(_FEATURES) or any(part == s or (s and s in part) for s in shown):
            raise Unsafe("recognizable-visual-features")

    def _overlays(self, header: Header) -> tuple[frozenset[int], bytes | None]:
        """Return the groups of overlays that go, and pixels without embedded overlays' bits."""
        groups = {tag >> 16 for tag in header.elements if tag >> 24 == 0x60 and not tag >> 16 & 1}
        if not groups:
            return frozenset(), None
        embedded = [
            group
            for group in sorted(groups)
            if group << 16 | 0x0010 in header.elements
            and group << 16 | 0x3000 not in header.elements
        ]
        stay = self.profile.settings.options.clean_graphics and self.pixel_settings.mode == "ocr"
        dropped = set(embedded) if stay else groups
        for group in groups - dropped:
            sizes = [header.number(group << 16 | n) for n in (0x0010, 0x0011)]
            if min(sizes) < 1:
                dropped.add(group)
        hidden = [g for g in embedded if header.number(g << 16 | 0x0102) > 0]
        masked = without_overlay_bits(header, hidden) if hidden else None
        return frozenset(dropped), masked

    def _overlay_data(
        self, header: Header, values: Values, dropped: frozenset[int]
    ) -> dict[int, Parts]:
        """Return the overlays that stay, text in them erased."""
        found: dict[int, Parts] = {}
        for tag, element in header.elements.items():
            if tag >> 24 == 0x60 and tag & 0xFFFF == 0x3000 and tag >> 16 not in dropped:
                found[id(element)] = _clean_overlay(header, element, values, self.pixel_settings)
        return found

    def _icons(self, header: Header, values: Values) -> dict[int, Parts]:
        """Return the cleaned pixels of icon images; one that can't be cleaned loses them."""
        found: dict[int, Parts] = {}
        for item in header.elements[_ICON].items or []:
            icon = Header(header.file, item)
            element = icon.elements.get(PIXEL_DATA)
            if element is None or self.pixel_settings.mode != "ocr":
                continue
            try:
                outcome = clean_pixel_data(icon, values.matcher, self.pixel_settings, None)
            except Unsafe:
                continue
            if outcome.transfer_syntax == header.file.transfer_syntax:
                found[id(element)] = outcome.elements[PIXEL_DATA]
        return found

    # ---- what is said --------------------------------------------------------------------------

    def _declared(self, header: Header, values: Values, pixels: Outcome) -> dict[int, bytes]:
        """Say what was done (PS3.3 C.7.1.1 and C.12.1.1, PS3.15 section E.1.1)."""
        scope = header.level
        said = dict(
            _declaration(self.profile.label, self.profile.methods, scope.implicit, scope.little)
        )
        word = {"modified": b"MODIFIED", "kept": b"UNMODIFIED", "removed": b"REMOVED"}
        said[_LONGITUDINAL] = encode_element(_LONGITUDINAL, "CS", word[self.profile.dates], scope)
        if PATIENT_ID not in header.elements:
            said[PATIENT_ID] = encode_element(PATIENT_ID, "LO", values.subject.encode(), scope)
        if pixels.cleaned and header.text(_BURNED_IN):
            said[_BURNED_IN] = encode_element(_BURNED_IN, "CS", b"NO", scope)
        for tag, (vr, value) in pixels.attributes.items():
            said[tag] = encode_element(tag, vr, value, scope)
        return said


class _Documents:
    """Cleans an encapsulated document (PS3.3 section A.45)."""

    def __init__(self, header: Header, values: Values, profile: Profile) -> None:
        self._header = header
        self._new: bytes | None = None
        self.length = 0
        element = header.elements.get(DOCUMENT)
        if element is None:
            return
        from node.deid.documents.documents import clean_document

        raw = header.raw(DOCUMENT)
        given = header.number(_DOCUMENT_LENGTH, len(raw))
        if 0 < given <= len(raw):
            raw = raw[:given]
        document = clean_document(
            raw,
            header.text(_MIME),
            values.matcher,
            characteristics=profile.settings.options.patient_characteristics,
        )
        self._new = document.data
        self.length = len(document.data)

    @property
    def length_changed(self) -> bool:
        """Whether the attribute that tells the document's length has to be written."""
        return self._new is not None and _DOCUMENT_LENGTH in self._header.elements

    @property
    def cleaned(self) -> dict[int, Parts]:
        """The element with the cleaned document, by the identity of the one it replaces."""
        if self._new is None:
            return {}
        parts = Parts()
        parts.put(encode_element(DOCUMENT, "OB", self._new, self._header.level))
        return {id(self._header.elements[DOCUMENT]): parts}


def _clean_overlay(
    header: Header, element: Element, values: Values, settings: PixelSettings
) -> Parts:
    """Return an overlay's data with its text erased and its graphics kept (PS3.3 C.9.2)."""
    from node.deid.pixels.bitmaps import clean_bitmap

    group, level = element.tag >> 16, header.level
    raw = header.raw(element.tag)
    rows, columns = (header.number(group << 16 | n) for n in (0x0010, 0x0011))
    frames = max(header.number(group << 16 | 0x0015, 1), 1)
    size = -(-rows * columns * frames // 8)
    if len(raw) < size:
        raise Unsafe("truncated")
    words = element.vr == "OW" and not level.little
    bits = _swapped(raw) if words else raw
    new = clean_bitmap(bits[:size], rows, columns, frames, values.matcher, settings)
    new += b"\0" * (len(new) & 1)
    parts = Parts()
    vr = element.vr if element.vr in ("OB", "OW") else "OW"
    parts.put(encode_element(element.tag, vr, _swapped(new) if words else new, level))
    return parts


def read(data: Buffer) -> File:
    """Read a whole DICOM file; ``Unsafe`` for a part of one, a directory, and what is none."""
    file = parse(data)
    classes = (_text(file.meta.get(0x00020002, b"")), _class(file))
    if MediaStorageDirectoryStorage in classes:
        raise Unsafe("dicomdir")
    if not file.declared and not _is_uid(classes[1]):
        raise Unsafe("not-dicom")
    if file.truncated or _ends_within_a_header(file):
        raise Unsafe("truncated")
    return file


def _ends_within_a_header(file: File) -> bool:
    """Say whether the few bytes after the last element are the beginning of another."""
    if not 0 < file.rest < 8 or file.dataset.elements[-1].tag >= PIXEL_DATA:
        return False
    return any(bytes(file.data[len(file.data) - file.rest :]))


def _class(file: File) -> str:
    for element in file.dataset.elements:
        if element.tag == _SOP_CLASS:
            return _text(bytes(file.data[element.start : element.end]))
        if element.tag > _SOP_CLASS:
            break
    return ""


@lru_cache(maxsize=64)
def _declaration(
    label: str, methods: tuple[tuple[str, str], ...], implicit: bool, little: bool
) -> tuple[tuple[int, bytes], ...]:
    dataset = Dataset()
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = f"Wardgate: PS3.15 2026d, {label}"[:64]
    codes = []
    for value, meaning in methods:
        code = Dataset()
        code.CodeValue, code.CodeMeaning = value, meaning
        code.CodingSchemeDesignator = "DCM"
        codes.append(code)
    dataset.DeidentificationMethodCodeSequence = codes
    encoded = []
    for element in dataset:
        one = Dataset()
        one[element.tag] = element
        encoded.append((int(element.tag), dummies.encode(one, implicit, little)))
    return tuple(encoded)


def _prologue(sop_class: str, instance: str, syntax: str) -> bytes:
    """Return preamble, prefix and file meta group (PS3.10 section 7.1)."""
    before, after = _prologue_around(sop_class, syntax)
    middle = _meta(0x0003, "UI", instance.encode())
    length = struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(before) + len(middle) + len(after))
    return b"\0" * 128 + b"DICM" + length + before + middle + after


@lru_cache(maxsize=256)
def _prologue_around(sop_class: str, syntax: str) -> tuple[bytes, bytes]:
    before = struct.pack("<HH2s2xL", 2, 1, b"OB", 2) + b"\0\1"
    before += _meta(0x0002, "UI", sop_class.encode("ascii", "replace"))
    after = _meta(0x0010, "UI", syntax.encode("ascii", "replace"))
    after += _meta(0x0012, "UI", IMPLEMENTATION_UID.encode())
    after += _meta(0x0013, "SH", IMPLEMENTATION_VERSION.encode())
    return before, after


def _meta(number: int, vr: str, value: bytes) -> bytes:
    if len(value) & 1:
        value += b"\0" if vr == "UI" else b" "
    return struct.pack("<HH2sH", 2, number, vr.encode(), len(value)) + value


def _length(documents: _Documents, scope: Elements) -> bytes:
    order = "<" if scope.little else ">"
    return encode_element(_DOCUMENT_LENGTH, "UL", struct.pack(order + "L", documents.length), scope)


def _deflated(plain: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    written = deflate.compress(plain) + deflate.flush()
    return written + b"\0" * (len(written) & 1)


def _stain(header: Header, values: Values) -> str:
    """Return the meaning of the first staining substance (PS3.3 C.7.6.22, TID 8003)."""
    for path in ((0x00480105, 0x0040A168), (0x00400560, 0x00400610)):
        sequence = header.elements.get(path[0])
        if sequence is not None and sequence.items:
            for _, element in sequence.items[0].walk():
                if element.tag == 0x00080104 and element.items is None:
                    raw = bytes(header.file.data[element.start : element.end])
                    text = decode(raw, ()).strip(" \0")
                    if "stain" in text.lower() or "hematoxylin" in text.lower():
                        new = values.clean(text.encode("utf-8"), "LO", ("ISO_IR 192",))
                        return text if new is None else ""
    return ""


def _magnification(header: Header) -> float:
    """Return Objective Lens Power (0048,0112), 0.0 without one."""
    for tag in (0x00480105,):
        sequence = header.elements.get(tag)
        for item in (sequence.items or []) if sequence is not None else []:
            element = item.get(0x00480112)
            if element is not None:
                raw = bytes(header.file.data[element.start : element.end])
                try:
                    return float(raw.split(b"\\")[0].strip(b" \0"))
                except ValueError:
                    return 0.0
    return 0.0


def _swapped(raw: bytes) -> bytes:
    swapped = bytearray(raw)
    swapped[0::2], swapped[1::2] = raw[1::2], raw[0::2]
    return bytes(swapped)


def _date(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def _text(raw: bytes) -> str:
    return raw.decode("latin-1").partition("\0")[0].strip()


def _is_uid(value: str) -> bool:
    return bool(value) and UID(value).is_valid


def _word(value: str, limit: int) -> str:
    return "".join(c for c in value if c.isascii() and c.isprintable())[:limit]
