"""CDA and other XML: who is masked, when is moved, the clinical text and its codes stay."""

from __future__ import annotations

import base64
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from node.deid.documents import clean_document
from node.deid.identifiers import Known, Matcher, Rules
from node.deid.reading import Unsafe

_KNOWN = Known(
    persons=frozenset({"Kowalczewski^Janusz", "王^建国"}),
    numbers=frozenset({"PX123456"}),
    birth_dates=frozenset({date(1950, 3, 4)}),
)
_MATCHER = Matcher(_KNOWN, Rules(days=10, uid=lambda uid: "2.25." + str(len(uid))))
_MIME = "text/XML"


def _clean(text: str, **options: Any) -> str:
    data = clean_document(text.encode(), _MIME, _MATCHER, **options).data
    etree.fromstring(data)  # it is well-formed
    return data.decode()


_CDA = """<?xml version="1.0"?>
<?xml-stylesheet href="Kowalczewski.xsl"?>
<!-- written for Janusz Kowalczewski -->
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xmlns:sdtc="urn:hl7-org:sdtc">
  <realmCode code="US"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
  <templateId root="2.16.840.1.113883.10.20.22.1.2" extension="2015-08-01"/>
  <id root="1.2.826.0.1.3680043.77.1" extension="PX123456"/>
  <code code="18748-4" codeSystem="2.16.840.1.113883.6.1" displayName="Diagnostic imaging report"/>
  <title>Chest CT of Janusz Kowalczewski</title>
  <effectiveTime value="20210516093000+0200"/>
  <recordTarget><patientRole>
    <id extension="998877" root="1.2.826.0.1.3680043.77.2"/>
    <addr><streetAddressLine>Quillfeather Lane 12</streetAddressLine><city>Netherwick</city></addr>
    <telecom value="tel:+48601234987"/>
    <patient><name><given>Janusz</given><family>Kowalczewski</family></name>
      <administrativeGenderCode code="M" codeSystem="2.16.840.1.113883.5.1"/>
      <birthTime value="19500304"/><sdtc:raceCode code="2106-3"/>
      <maritalStatusCode code="M"/></patient>
    <providerOrganization><name>Harrowgate Infirmary</name></providerOrganization>
  </patientRole></recordTarget>
  <author><time value="20210516"/><assignedAuthor><id root="1.2.826.0.1.3680043.77.3"/>
    <assignedPerson><name>Dr. Somebody Unlisted</name></assignedPerson></assignedAuthor></author>
  <component><structuredBody><component><section>
    <title>Findings</title>
    <text><paragraph>Mr. <content styleCode="Bold">Kowal</content>czewski has a <b>stable nodule</b>
      of 7 mm in the right upper lobe, seen on 16.05.2021.</paragraph>
      <table><tr><td>Janusz</td><td>Kowalczewski</td><td>effusion</td></tr></table>
      <![CDATA[Note: PX-123456, mild cardiomegaly]]></text>
    <entry><observation classCode="OBS" moodCode="EVN">
      <code code="39607008" codeSystem="2.16.840.1.113883.6.96" displayName="Lung structure"/>
      <effectiveTime><low value="202105"/><high value="20210520"/></effectiveTime>
      <value xsi:type="PQ" value="7" unit="mm"/>
      <value xsi:type="ST">nodule of Kowalczewski</value>
      <participant><participantRole><playingEntity classCode="MMAT"><name>iohexol</name>
      </playingEntity></participantRole></participant>
    </observation></entry>
  </section></component></structuredBody></component>
</ClinicalDocument>"""
_SECRETS = (
    "Kowal", "czewski", "Janusz", "PX", "998877", "Quillfeather", "Netherwick", "601234987",
    "Harrowgate", "Unlisted", "19500304", "20210516", "16.05.2021", "2106-3", "3680043",
)  # fmt: skip


def test_a_clinical_document_tells_nobody_and_keeps_its_findings() -> None:
    cleaned = _clean(_CDA)
    assert not [secret for secret in _SECRETS if secret in cleaned]
    for kept in (
        "Diagnostic imaging report", "18748-4", "stable nodule", "7 mm in the right upper lobe",
        "mild cardiomegaly", "effusion", "Lung structure", 'value="7" unit="mm"', "iohexol",
        "Chest CT of", "06.05.2021", "20210506093000+0200", "20210510", "Findings",
        "2.16.840.1.113883.10.20.22.1.2", "2015-08-01", "POCD_HD000040", 'xsi:type="PQ"',
    ):  # fmt: skip
        assert kept in cleaned, kept


def test_a_patients_sex_stays_where_characteristics_do() -> None:
    assert 'code="M" codeSystem="2.16.840.1.113883.5.1"' not in _clean(_CDA)
    assert 'code="M" codeSystem="2.16.840.1.113883.5.1"' in _clean(_CDA, characteristics=True)


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>',
        '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
        '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><r>&c;</r>',
        '<!DOCTYPE r SYSTEM "http://127.0.0.1/x.dtd"><r/>',
        "<!DOCTYPE r><r/>",
        "<r><a></r>",
        "<r>" + "<a>" * 400 + "</a>" * 400 + "</r>",
        "plain text",
        "",
        '<?xml version="1.0" encoding="nonsense"?><r/>',
        "<r>&#0;</r>",
    ],
    ids=["file", "laughs", "dtd", "doctype", "unclosed", "deep", "text", "empty", "charset", "nul"],
)
def test_what_attacks_the_parser_or_is_no_xml_is_refused(text: str) -> None:
    with pytest.raises(Unsafe):
        clean_document(text.encode(), _MIME, _MATCHER)


@pytest.mark.parametrize(
    "text",
    [
        "<r>Kowalczewski nodule</r>",
        '<r a="Kowalczewski">nodule</r>',
        "<r>nodule<!-- Kowalczewski --></r>",
        "<r>nodule<?x Kowalczewski?></r>",
        "<r><![CDATA[Kowalczewski nodule]]></r>",
        "<r>&#75;owalczewski nodule</r>",
        "<r><b>Kowal</b>czewski nodule</r>",
        "<r><b>K</b><i>o</i><b>wal</b>czew<span>ski</span> nodule</r>",
        "<r><td>Janusz</td> <td>Kowalczewski</td> nodule</r>",
        '<r xmlns:k="http://x/Kowalczewski">nodule</r>',
        "<r>王<b>建</b>国 nodule</r>",
        '<r href="https://x/Kowalczewski">nodule</r>',
    ],
)
def test_a_name_goes_wherever_a_tree_may_hold_it(text: str) -> None:
    cleaned = _clean(text)
    assert "nodule" in cleaned
    for part in ("Kowal", "czew", "建"):
        assert part not in cleaned


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-2", "gb18030"])
def test_any_declared_encoding_is_read(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?><r>Kowalczewski: nodule ł</r>'
    if encoding == "gb18030":
        text = text.replace("ł", "王建国")
    cleaned = clean_document(text.encode(encoding), _MIME, _MATCHER).data.decode()
    assert "Kowalczewski" not in cleaned and "王" not in cleaned and "nodule" in cleaned


def _embedded(data: bytes, mime: str, inner: str = "") -> str:
    return (
        '<ClinicalDocument xmlns="urn:hl7-org:v3"><text mediaType="'
        f'{mime}" representation="B64" {inner}>{base64.b64encode(data).decode()}</text>'
        "</ClinicalDocument>"
    )


def test_a_document_in_the_document_is_cleaned() -> None:
    cleaned = _clean(_embedded(b"Kowalczewski: nodule", "text/plain"))
    body = etree.fromstring(cleaned.encode())[0].text
    assert base64.b64decode(body) == b"***: nodule"


@pytest.mark.parametrize("mime", ["image/png", "application/zip", ""])
def test_a_document_in_the_document_of_no_known_kind_goes(mime: str) -> None:
    encoded = base64.b64encode(b"Kowalczewski").decode()
    assert encoded not in _clean(_embedded(b"Kowalczewski", mime))


def test_a_compressed_document_in_the_document_goes() -> None:
    cleaned = _clean(_embedded(b"Kowalczewski", "text/plain", 'compression="DF"'))
    assert base64.b64encode(b"Kowalczewski").decode() not in cleaned


def test_documents_in_documents_in_documents_end() -> None:
    text = "<r>Kowalczewski</r>"
    for _ in range(8):
        text = _embedded(text.encode(), "text/xml")
    assert "Kowalczewski" not in _clean(text)


_PIECES = st.sampled_from(
    ["<a>", "</a>", "<b x='Kowalczewski'>", "</b>", "Kowal", "czewski", "<!--", "-->", "<![CDATA[",
     "]]>", "&amp;", "&#x4b;", "<?p", "?>", " ", "\n", "<name>", "</name>", "<c/>", "20210516"]
)  # fmt: skip


@settings(max_examples=150, deadline=timedelta(minutes=2))
@given(st.lists(_PIECES, max_size=25))
def test_any_tree_is_cleaned_or_refused(pieces: list[str]) -> None:
    text = f'<ClinicalDocument xmlns="urn:hl7-org:v3">{"".join(pieces)}</ClinicalDocument>'
    try:
        cleaned = clean_document(text.encode(), _MIME, _MATCHER).data
    except Unsafe:
        return
    assert b"Kowalczewski" not in cleaned
    etree.fromstring(cleaned)


@settings(max_examples=60, deadline=timedelta(minutes=2))
@given(st.data())
def test_a_damaged_document_is_cleaned_or_refused(data: st.DataObject) -> None:
    made = bytearray(_CDA.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(made) - 1))
        made[at : at + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
    try:
        clean_document(bytes(made), _MIME, _MATCHER)
    except Unsafe:
        return
