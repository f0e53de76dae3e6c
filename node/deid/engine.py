"""De-identification of a DICOM file: a profile's actions, applied to every element of every level.

Steps, in this order (PS3.15 section E.1.1): read the whole file or refuse it; gather what its own
attributes say of the patient, the hospital and the staff; clean pixels, overlays and documents; act
on each element, in sequences too, and search every text that stays for what was gathered; say what
was done in the attributes meant for it; write the file anew, with a zeroed preamble and a file meta
group that tells nothing of where it came from.

The file is not decoded: what stays is spliced from the source (``elements``, ``parts``).
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, OrderedDict
from datetime import date
from hashlib import blake2b

from node.deid import gathering
from node.deid.charsets import decode
from node.deid.dates import shift_date
from node.deid.elements import (
    DEFLATED_SYNTAXES,
    PIXEL_DATA,
    Buffer,
    File,
    parse,
)
from node.deid.embedded import Documents, clean_overlay
from node.deid.identifiers import Known, matcher
from node.deid.image_header import Header
from node.deid.misdeclared import real_charset
from node.deid.part10 import declaration, prologue
from node.deid.parts import Parts
from node.deid.pixel_data import Outcome, clean_pixel_data, without_overlay_bits
from node.deid.pixels.image import PixelSettings
from node.deid.profile import Profile
from node.deid.pseudonyms import Pseudonyms
from node.deid.reading import Unsafe
from node.deid.result import Deidentified
from node.deid.series import Template
from node.deid.values import Values
from node.deid.walk import CHARSET, PATIENT_ID, Rules, Walk
from node.deid.walk import encode as encode_element

_ICON = 0x00880200
_SOP_CLASS, _SOP_INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_BURNED_IN, _FEATURES, _LONGITUDINAL = 0x00280301, 0x00280302, 0x00280303
_REMOVED, _METHOD, _METHOD_CODES = 0x00120062, 0x00120063, 0x00120064
_HEADS = ("HEAD", "BRAIN", "SKULL", "FACE", "NECK", "ORBIT", "SINUS", "EAR", "JAW", "EYE", "")
_WITHOUT_EARS = ("HEART", "FOREARM")
_SHOW_FACES = {
    "CT": _HEADS,
    "MR": _HEADS,
    "PT": _HEADS,
    "NM": _HEADS,
    **dict.fromkeys(("XC", "GM", "VL", "DMS", "OP"), ("",)),
}
_DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")
"""PS3.5 section 9.1."""
_MOST_CONTEXTS = 64
_MOST_DEFLATED = 1 << 30


def shows_face(modality: str, part: str) -> bool:
    """Say whether images of a part of the body may show a face. No part stated: any."""
    shown, part = _SHOW_FACES.get(modality.upper(), ()), part.upper()
    for word in _WITHOUT_EARS:
        part = part.replace(word, "-")
    return any(part == s or (s and s in part) for s in shown)


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

    def prepare(self) -> None:
        """Load what the first file would load, for all processes that are forked after this."""
        matcher(Known(persons=frozenset({"Doe^Jane"})), None, False, None).clean("Dr. Doe, 2020")

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
        return template.apply(data, walk)

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
        documents = Documents(header, values, self.profile)
        special |= documents.cleaned
        special |= self._overlay_data(header, values, dropped)
        if _ICON in header.elements:
            special |= self._icons(header, values)
        inserted |= documents.length_element
        charset = real_charset(file) if values.is_foreign else ()
        if charset:
            inserted[CHARSET] = encode_element(CHARSET, "CS", charset[0].encode(), file.dataset)
        walk = Walk(file.data, self._rules, values, special, actions, dropped, charset)
        top = walk.top(file.dataset, inserted)
        result = self._finish(header, data, instance, values, pixels, top.parts, actions)
        alone = all(
            element.tag == PIXEL_DATA
            for element in header.elements.values()
            if id(element) in special
        )
        if self.pixel_settings.mode == "off" and alone and not dropped and not charset:
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
        parts.put(prologue(sop_class[:64], instance, syntax))
        source: Buffer = file.data
        if syntax in DEFLATED_SYNTAXES:
            if body.length > _MOST_DEFLATED:
                raise Unsafe("too-large")
            parts.put(_deflated(body.join(file.data)))
        else:
            parts.extend(body)
        moved = shift_date(header.text(0x00080020), values.days or 0) or ""
        kept = self.profile.dates != "removed"
        return Deidentified(
            parts=parts,
            source=source,
            spliced=file.data is data,
            subject=values.subject,
            study_uid=study,
            series_uid=series,
            sop_instance_uid=instance,
            sop_class_uid=sop_class[:64],
            modality=_word(self._clean(header, values, 0x00080060, "CS"), 16),
            body_part=_word(self._clean(header, values, 0x00180015, "CS"), 64),
            laterality=_word(
                self._clean(header, values, 0x00200060, "CS")
                or self._clean(header, values, 0x00200062, "CS"),
                16,
            ),
            manufacturer=_word(self._clean(header, values, 0x00080070, "LO"), 64),
            device_model=_word(self._clean(header, values, 0x00081090, "LO"), 64),
            study_date=_date(moved) if kept else None,
            instance_number=values.instance_number(header.raw(0x00200013)),
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
        context.is_foreign = any(not raw.isascii() for _, raw, _ in found)
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
        if header.text(_FEATURES) or shows_face(header.text(0x00080060), header.text(0x00180015)):
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
                found[id(element)] = clean_overlay(header, element, values, self.pixel_settings)
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
            declaration(self.profile.label, self.profile.methods, scope.implicit, scope.little)
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


def read(data: Buffer) -> File:
    """Read a whole DICOM file; ``Unsafe`` for a part of one, a directory, and what is none."""
    file = parse(data)
    classes = (_text(file.meta.get(0x00020002, b"")), _class(file))
    if _DIRECTORY_CLASS in classes:
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


def _date(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def _text(raw: bytes) -> str:
    return raw.decode("latin-1").partition("\0")[0].strip()


def _is_uid(value: str) -> bool:
    return len(value) <= 64 and _UID.fullmatch(value) is not None


def _word(value: str, limit: int) -> str:
    return "".join(c for c in value if c.isascii() and c.isprintable())[:limit]
