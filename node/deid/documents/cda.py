"""XML documents, above all HL7 CDA Release 2: cleaned by structure, then in every text.

Names of persons and organisations, their addresses, telephones and identifiers, the patient's birth
and origin are masked (``nullFlavor="MSK"``, HL7 V3 NullFlavor); points in time (HL7 V3 TS) are
moved; codes stay; all other text and attributes go through the matcher. Comments and processing
instructions are dropped, and a document type is refused, so that no entity is ever resolved.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from node.deid.documents.document import Cleaner, Document
from node.deid.documents.markup import Places, local_name, xml_text
from node.deid.documents.plain import unpadded
from node.deid.reading import Unsafe

Inner = Callable[[bytes, str], bytes]
_HL7 = ("{urn:hl7-org:v3}", "{urn:hl7-org:sdtc}")
_XSI = "{http://www.w3.org/2001/XMLSchema-instance}"
_MASKED = {
    **dict.fromkeys(("addr", "telecom", "birthplace"), "addresses"),
    **dict.fromkeys(("birthTime", "deceasedTime"), "birth-and-death"),
    **dict.fromkeys(
        ("raceCode", "ethnicGroupCode", "religiousAffiliationCode", "maritalStatusCode"), "origin"
    ),
    **dict.fromkeys(("signatureText", "thumbnail", "bibliographicDesignation"), "names"),
}
_THINGS = frozenset({
    "manufacturedMaterial", "manufacturedLabeledDrug", "labeledDrug", "material",
    "containerPackagedMedicine", "playingDevice", "specimenPlayingEntity", "containedMaterial",
    "ingredientSubstance",
})  # fmt: skip
"""Entities whose name is clinical: a drug, a substance, a specimen."""
_TERMINOLOGIES = ("2.16.840.1.113883.6.", "2.16.840.1.113883.5.", "1.2.840.10008.")
"""Of HL7's external code systems, of HL7 itself, and DICOM's."""
_STRUCTURE = frozenset({
    "classCode", "moodCode", "typeCode", "determinerCode", "nullFlavor", "codeSystem",
    "codeSystemVersion", "unit", "use", "mediaType", "representation", "type",
    "contextControlCode", "contextConductionInd", "inversionInd", "negationInd", "independentInd",
    "operator", "styleCode", "rowspan", "colspan", "align", "valign", "border", "width",
    "cellpadding", "cellspacing", "listType", "inclusive", "institutionSpecified", "qualifier",
    "lang",
})  # fmt: skip
_REFERENCES = frozenset({"templateId", "typeId", "realmCode"})
_CLOSED = re.compile(r"[0-2](?:\.\d{1,64})+|\d{4}-\d\d-\d\d|POCD_\w{1,16}|.{1,3}")
"""An OID, the date of a template's version, the kind of a CDA, or too short to tell of anyone."""
_LINKS = frozenset({"href", "src", "schemaLocation", "noNamespaceSchemaLocation"})
_TIMES = frozenset({
    "effectiveTime", "time", "low", "high", "center", "activityTime", "availabilityTime",
    "expectedUseTime", "existenceTime",
})  # fmt: skip
_TIME = re.compile(
    r"((?:18|19|20|21)\d\d)(?:(0[1-9]|1[0-2])(?:(0[1-9]|[12]\d|3[01])([0-9.]{0,13}))?)?"
    r"([+-]\d{4})?"
)
_MAX_NODES = 2_000_000


def clean_xml(
    data: bytes, matcher: Cleaner, inner: Inner, *, characteristics: bool = False
) -> Document:
    """Return the document cleaned, in UTF-8.

    ``inner`` cleans a document in the document: bytes and MIME type in, bytes out or ``Unsafe``.
    ``characteristics`` keeps the patient's sex. ``Unsafe("unreadable-document")`` for what isn't
    well-formed or has a document type.
    """
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    try:
        root = etree.fromstring(unpadded(data), parser)
    except (etree.XMLSyntaxError, ValueError, LookupError):
        raise Unsafe("unreadable-document") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise Unsafe("unreadable-document")
    cleaner = _Cleaner(matcher, inner, characteristics)
    prefixes = cleaner.tree(root)
    etree.cleanup_namespaces(root, keep_ns_prefixes=sorted(prefixes))
    cleaned = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    return Document(cleaned, dict(sorted(cleaner.account.items())))


class _Cleaner:
    def __init__(self, matcher: Cleaner, inner: Inner, characteristics: bool) -> None:
        self.matcher = matcher
        self.inner = inner
        self.account: Counter[str] = Counter()
        self._masked = dict(_MASKED)
        if not characteristics:
            self._masked["administrativeGenderCode"] = "origin"
        self._attributes: dict[str, str] = {}
        self._embedded: list[tuple[Any, str]] = []

    def tree(self, root: Any) -> set[str]:
        """Clean the tree in place; return the prefixes that its attributes' values use."""
        elements = []
        for element in root.iter():
            elements.append(element)
            if len(elements) > _MAX_NODES:
                raise Unsafe("too-large")
        for element in elements:
            if element is root or element.getparent() is not None:
                self._structure(element)
        prefixes: set[str] = set()
        for element in root.iter():
            if not isinstance(element.tag, str):
                raise Unsafe("unreadable-document")
            for name, value in element.attrib.items():
                self._attribute(element, name, value)
            kind = element.get(_XSI + "type", "")
            prefixes.update({kind.partition(":")[0]} if ":" in kind else ())
        self.account["texts"] += Places(root).clean(self.matcher)
        for element, encoded in self._embedded:
            element.text = encoded
        return prefixes

    def _structure(self, element: Any) -> None:
        """Mask an element of HL7's that says who, where or which."""
        tag = element.tag
        if not isinstance(tag, str):
            return
        if element.get("representation") == "B64" or element.get("compression"):
            self._take_out(element)
        if not tag.startswith(_HL7):
            return
        name = local_name(tag)
        parent = element.getparent()
        over = local_name(parent.tag) if parent is not None else ""
        if name in self._masked:
            self._mask(element, self._masked[name])
        elif name == "name" and over not in _THINGS and not _is_thing(parent):
            self._mask(element, "names")
        elif name in ("id", "setId"):
            self._identifier(element)

    def _mask(self, element: Any, kind: str) -> None:
        tail = element.tail
        element.clear()
        element.tail = tail
        element.set("nullFlavor", "MSK")
        self.account[kind] += 1

    def _identifier(self, element: Any) -> None:
        """Keep an instance identifier only as the UID that the matcher makes of it (HL7 V3 II)."""
        root = element.get("root", "")
        new = self.matcher.clean(root) if root else ""
        alone = not element.get("extension")
        self._mask(element, "ids")
        if alone and new != root and re.fullmatch(r"[0-2](?:\.\d+)+|[0-9A-Fa-f-]{36}", new):
            del element.attrib["nullFlavor"]
            element.set("root", new)

    def _take_out(self, element: Any) -> None:
        """Clean a document in the document, to be put back once all texts are clean, or drop it."""
        mime = element.get("mediaType", "")
        new = ""
        if not element.get("compression"):
            try:
                part = base64.b64decode("".join(element.itertext()))
                new = base64.b64encode(self.inner(part, mime)).decode("ascii")
            except (binascii.Error, ValueError, Unsafe):
                new = ""
        for child in list(element):
            element.remove(child)
        element.text = None
        element.attrib.pop("integrityCheck", None)
        if new:
            element.set("representation", "B64")
            self._embedded.append((element, new))
            self.account["documents-cleaned"] += 1
        else:
            self.account["documents-removed"] += 1

    def _attribute(self, element: Any, name: str, value: str) -> None:
        plain = local_name(name)
        place = local_name(element.tag)
        if plain in _LINKS or (place == "reference" and plain == "value"):
            if not value.startswith("#"):
                del element.attrib[name]
                self.account["links"] += 1
                return
        elif (
            plain in _STRUCTURE
            or place in _REFERENCES
            or (plain == "code" and element.get("codeSystem", "").startswith(_TERMINOLOGIES))
        ):
            return
        if plain == "value" and _is_time(element, place) and (match := _TIME.fullmatch(value)):
            new = self._time(match)
        else:
            if value not in self._attributes:
                self._attributes[value] = xml_text(self.matcher.clean(value))
            new = self._attributes[value]
        if new != value:
            element.set(name, new)
            self.account["attributes"] += 1

    def _time(self, match: re.Match[str]) -> str:
        """Move a point in time by its date; what is no whole date moves as if in its middle."""
        year, month, day, clock, zone = match.groups()
        moved = self.matcher.clean(year + (month or "07") + (day or ("15" if month else "01")))
        if not re.fullmatch(r"\d{8}", moved):
            return ""
        if day:
            return moved + (clock or "") + (zone or "")
        return moved[:6] if month else moved[:4]


def _is_thing(parent: Any) -> bool:
    """Return whether a ``name`` is of a playing entity that is no person, place or organisation."""
    if parent is None or local_name(parent.tag) != "playingEntity":
        return False
    return parent.get("classCode", "") not in ("PSN", "ORG", "PLC", "LIV", "")


def _is_time(element: Any, place: str) -> bool:
    kind = element.get(_XSI + "type", "").rpartition(":")[2]
    return element.get("unit") is None and (place in _TIMES or kind in ("TS", "IVL_TS", "PIVL_TS"))
