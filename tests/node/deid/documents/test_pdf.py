"""PDFs come out as new files with their clinical text, and nothing of what hid in the old."""

from __future__ import annotations

import io
from datetime import date, timedelta

import pikepdf
import pypdfium2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pikepdf import Array, Dictionary, Name, Stream, String

from node.deid.documents import clean_document
from node.deid.documents.pdf import clean_pdf
from node.deid.documents.pdf_writer import Line, Page, write_pdf
from node.deid.identifiers import Known, Matcher, Rules
from node.deid.reading import Unsafe

_KNOWN = Known(
    persons=frozenset(
        {"Kowalczewski^Janusz", "王^建国", "山田^太郎", "홍^길동", "Кузнецова^Людмила"}
    ),
    numbers=frozenset({"PX123456"}),
    birth_dates=frozenset({date(1950, 3, 4)}),
)
_MATCHER = Matcher(_KNOWN, Rules(days=10))
_SECRETS = ("Kowalczewski", "KOWALCZEWSKI", "Janusz", "PX123456", "王建国", "山田太郎", "홍길동")


def _pdf(*pages: str, font: pikepdf.Object | None = None) -> pikepdf.Pdf:
    """Return a document with the lines of each page in Helvetica."""
    pdf = pikepdf.new()
    helvetica = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica)
    for text in pages:
        shown = b"BT /F1 11 Tf 14 TL 60 780 Td "
        for line in text.splitlines():
            escaped = line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
            shown += b"(" + escaped.encode("latin-1") + b") Tj T* "
        page = pdf.add_blank_page(page_size=(595, 842))
        page.Contents = Stream(pdf, shown + b"ET")
        fonts = Dictionary({"/F1": pdf.make_indirect(font if font is not None else helvetica)})
        page.Resources = Dictionary(Font=fonts)
    return pdf


def _bytes(pdf: pikepdf.Pdf, **options: object) -> bytes:
    out = io.BytesIO()
    pdf.save(out, **options)
    return out.getvalue()


def _text(data: bytes) -> str:
    document = pypdfium2.PdfDocument(data)
    return "\n".join(
        document[number].get_textpage().get_text_range() for number in range(len(document))
    )


def _everything(data: bytes) -> str:
    """Return a file's bytes and all its streams decompressed, in the encodings of PDF strings."""
    raw = [data]
    with pikepdf.open(io.BytesIO(data)) as pdf:
        for one in pdf.objects:
            if isinstance(one, Stream):
                raw.append(one.read_bytes())
            raw.append(repr(one).encode("utf-8", "replace"))
    return "\n".join(
        part.decode(codec, "ignore") for part in raw for codec in ("latin-1", "utf-8", "utf-16-be")
    )


def _assert_clean(cleaned: bytes) -> None:
    whole = _everything(cleaned) + _text(cleaned)
    assert not [secret for secret in _SECRETS if secret in whole]


_REPORT = """CHEST PA for Mr. Kowalczewski, MRN PX 123456
Janusz KOWALCZEWSKI was seen on 2021-05-16 and born 04.03.1950.
Findings: stable nodule (7 mm) in the right upper lobe."""


def test_the_text_is_cleaned_and_its_clinical_words_stay() -> None:
    cleaned = clean_pdf(_bytes(_pdf(_REPORT)), _MATCHER)
    _assert_clean(cleaned.data)
    text = _text(cleaned.data)
    for word in ("CHEST PA", "stable nodule (7 mm) in the right upper lobe", "2021-05-06", "born"):
        assert word in text
    assert "1950" not in text
    assert cleaned.account["pages"] == 1 and cleaned.account["lines"] == 3


def test_a_name_that_goes_on_in_the_next_line_goes() -> None:
    cleaned = clean_pdf(
        _bytes(_pdf("examined was Janusz\nKowalczewski today, lung clear")), _MATCHER
    )
    _assert_clean(cleaned.data)
    assert "lung clear" in _text(cleaned.data)


def test_what_no_reader_sees_is_left_out() -> None:
    pdf = _pdf("Lung clear", "Second page")
    page = pdf.pages[0]
    pdf.docinfo["/Author"] = "Janusz Kowalczewski"
    pdf.docinfo["/Title"] = String("王建国")
    with pdf.open_metadata() as metadata:
        metadata["dc:creator"] = ["Kowalczewski"]
    pdf.attachments["Kowalczewski.txt"] = b"Janusz Kowalczewski"
    note = Dictionary(Type=Name.Annot, Subtype=Name.Text, Rect=Array([10, 10, 30, 30]),
                      Contents=String("Kowalczewski"), T=String("Janusz"))  # fmt: skip
    link = Dictionary(Type=Name.Annot, Subtype=Name.Link, Rect=Array([10, 40, 30, 60]),
                      A=Dictionary(S=Name.URI, URI=String("https://x/Kowalczewski")))  # fmt: skip
    field = Dictionary(Type=Name.Annot, Subtype=Name.Widget, FT=Name.Tx, T=String("Kowalczewski"),
                       V=String("Janusz Kowalczewski"), Rect=Array([10, 70, 200, 90]))  # fmt: skip
    page.Annots = Array([pdf.make_indirect(one) for one in (note, link, field)])
    pdf.Root.AcroForm = Dictionary(Fields=Array([page.Annots[2]]))
    pdf.Root.OpenAction = Dictionary(S=Name.JavaScript, JS=String("app.alert('Kowalczewski')"))
    with pdf.open_outline() as outline:
        outline.root.append(pikepdf.OutlineItem("Kowalczewski", 0))
    page.PieceInfo = Dictionary(X=Dictionary(Private=String("Kowalczewski")))
    cleaned = clean_pdf(_bytes(pdf), _MATCHER)
    _assert_clean(cleaned.data)
    assert "Lung clear" in _text(cleaned.data) and "Second page" in _text(cleaned.data)
    assert cleaned.account["attachments-removed"] == 1


def test_a_hidden_layer_is_cleaned_or_left_out() -> None:
    pdf = _pdf("Lung clear")
    layer = pdf.make_indirect(Dictionary(Type=Name.OCG, Name=String("Kowalczewski")))
    config = Dictionary(OFF=Array([layer]), Order=Array([layer]))
    pdf.Root.OCProperties = Dictionary(OCGs=Array([layer]), D=config)
    page = pdf.pages[0]
    page.Resources.Properties = Dictionary(L1=layer)
    hidden = b"/OC /L1 BDC BT /F1 11 Tf 60 500 Td (Janusz Kowalczewski) Tj ET EMC"
    page.contents_add(hidden)
    cleaned = clean_pdf(_bytes(pdf), _MATCHER)
    _assert_clean(cleaned.data)
    assert "Lung clear" in _text(cleaned.data)


def test_invisible_text_over_a_scan_is_left_out() -> None:
    pdf = _pdf("Lung clear")
    pdf.pages[0].contents_add(b"BT 3 Tr /F1 11 Tf 60 500 Td (Janusz Kowalczewski) Tj ET")
    _assert_clean(clean_pdf(_bytes(pdf), _MATCHER).data)


def test_an_earlier_revision_is_not_in_the_new_file() -> None:
    old = _bytes(_pdf("Janusz Kowalczewski, lung clear"), compress_streams=False)
    with pikepdf.open(io.BytesIO(old)) as opened:
        number = opened.pages[0].Contents.objgen[0]
    start = old.rindex(b"startxref")
    previous = int(old[start:].split()[1])
    content = b"BT /F1 11 Tf 60 700 Td (Heart normal) Tj ET"
    where = len(old)
    new = b"%d 0 obj\n<< /Length %d >>\nstream\n%b\nendstream\nendobj\n" % (
        number, len(content), content,
    )  # fmt: skip
    table = b"xref\n%d 1\n%010d 00000 n \n" % (number, where)
    trailer = old[old.index(b"trailer") : start].replace(b">>", b"/Prev %d >>" % previous)
    update = old + new + table + trailer + b"startxref\n%d\n%%%%EOF\n" % (where + len(new))
    assert "Heart normal" in _text(update) and b"Kowalczewski" in update
    cleaned = clean_pdf(update, _MATCHER)
    _assert_clean(cleaned.data)
    assert "Heart normal" in _text(cleaned.data)


def test_a_font_with_codes_of_its_own_is_read_by_its_map() -> None:
    pdf = pikepdf.new()
    text = "Lung clear, Janusz Kowalczewski"
    letters = sorted(set(text))
    codes = {letter: 65 + index for index, letter in enumerate(letters)}
    pairs = "\n".join(f"<{codes[c]:02x}> <{ord(c):04x}>" for c in letters)
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapType 2 def\n"
        "1 begincodespacerange <00> <ff> endcodespacerange\n"
        f"{len(letters)} beginbfchar\n{pairs}\nendbfchar endcmap end end"
    )
    font = Dictionary(
        Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica, FirstChar=65,
        LastChar=64 + len(letters), Widths=Array([500] * len(letters)),
        ToUnicode=pdf.make_stream(cmap.encode()),
    )  # fmt: skip
    shown = bytes(codes[c] for c in text).hex().encode()
    page = pdf.add_blank_page(page_size=(595, 842))
    page.Contents = Stream(pdf, b"BT /F1 11 Tf 60 700 Td <" + shown + b"> Tj ET")
    page.Resources = Dictionary(Font=Dictionary({"/F1": pdf.make_indirect(font)}))
    data = _bytes(pdf)
    assert b"Kowalczewski" not in data and "Kowalczewski" in _text(data)
    cleaned = clean_pdf(data, _MATCHER)
    _assert_clean(cleaned.data)
    assert shown not in cleaned.data
    assert "Lung clear" in _text(cleaned.data)


@pytest.mark.parametrize(
    ("text", "kept", "gone"),
    [
        ("胸部正位 王建国 肺结节", "肺结节", "王建国"),
        ("胸部単純 山田太郎 やまだ 肝臓", "肝臓", "山田太郎"),
        ("흉부 촬영 홍길동 초음파", "초음파", "홍길동"),
        ("Органы грудной клетки Кузнецова Людмила", "грудной клетки", "Кузнецова"),
        ("Größe 5 mm, Żółtowice: Kowalczewski", "Größe 5 mm, Żółtowice", "Kowalczewski"),
        ("Żółć, ≥ 5 mm → Kowalczewski", "Żółć, ≥ 5 mm →", "Kowalczewski"),
        ("α-Fetoprotein 3 µg/l, Kowalczewski", "α-Fetoprotein 3 µg/l", "Kowalczewski"),
    ],
)
def test_any_script_is_cleaned_and_written_again(text: str, kept: str, gone: str) -> None:
    source = write_pdf([Page(595, 842, (Line(50, 700, 12, text),))])
    assert gone in _text(source)
    cleaned = clean_pdf(source, _MATCHER)
    assert kept in _text(cleaned.data)
    assert gone not in _text(cleaned.data) + _everything(cleaned.data)


@settings(max_examples=60, deadline=timedelta(minutes=2))
@given(st.lists(st.sampled_from(list("aźŹéžЖяαβ中国がカ한0≥→")),
                min_size=1, max_size=12), st.integers(1, 3))  # fmt: skip
def test_what_is_written_is_read_again(signs: list[str], every: int) -> None:
    text = "".join(
        sign + (" " if number % every == 0 else "") for number, sign in enumerate(signs)
    ).strip()
    read = _text(write_pdf([Page(595, 842, (Line(20, 700, 8, text),))]))
    assert "".join(read.split()) == "".join(text.split())


def test_a_scanned_page_becomes_blank_and_is_counted() -> None:
    pdf = _pdf("")
    image = Stream(pdf, bytes(64 * 64))
    image.Type, image.Subtype = Name.XObject, Name.Image
    image.Width = image.Height = 64
    image.BitsPerComponent, image.ColorSpace = 8, Name.DeviceGray
    page = pdf.pages[0]
    page.Resources.XObject = Dictionary(I=pdf.make_indirect(image))
    page.Contents = Stream(pdf, b"q 400 0 0 400 50 50 cm /I Do Q")
    cleaned = clean_pdf(_bytes(pdf), _MATCHER)
    assert cleaned.account["scanned-pages-removed"] == 1
    assert b"Image" not in cleaned.data and len(pypdfium2.PdfDocument(cleaned.data)) == 1


@pytest.mark.parametrize(
    "data",
    [
        _bytes(_pdf(_REPORT), encryption=pikepdf.Encryption(owner="a", user="b", R=6)),
        b"%PDF-1.4\nnothing of a document\n%%EOF",
        b"PK\3\4 no PDF",
        b"",
    ],
    ids=["locked", "broken", "archive", "empty"],
)
def test_what_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(Unsafe, match="unreadable-document"):
        clean_pdf(data, _MATCHER)


def test_a_document_with_an_owners_password_only_is_read() -> None:
    data = _bytes(_pdf(_REPORT), encryption=pikepdf.Encryption(owner="a", user="", R=6))
    cleaned = clean_pdf(data, _MATCHER)
    _assert_clean(cleaned.data)
    assert "stable nodule" in _text(cleaned.data)


def test_more_pages_than_anyone_reads_are_refused() -> None:
    pdf = _pdf("Lung clear")
    for _ in range(5_001):
        pdf.add_blank_page(page_size=(100, 100))
    with pytest.raises(Unsafe, match="too-large"):
        clean_pdf(_bytes(pdf), _MATCHER)


def test_the_same_document_becomes_the_same_bytes_of_even_length() -> None:
    data = _bytes(_pdf(_REPORT))
    first, second = clean_pdf(data, _MATCHER), clean_pdf(data, _MATCHER)
    assert first.data == second.data and len(first.data) % 2 == 0


def test_a_document_is_told_by_its_type_or_its_first_bytes() -> None:
    data = _bytes(_pdf(_REPORT))
    for mime in ("application/pdf", "APPLICATION/PDF ", "application/pdf; x=y", ""):
        _assert_clean(clean_document(data + b"\0", mime, _MATCHER).data)
    with pytest.raises(Unsafe, match="unknown-document"):
        clean_document(data, "image/png", _MATCHER)


@settings(
    max_examples=25,
    deadline=timedelta(minutes=2),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.data())
def test_a_damaged_document_is_cleaned_or_refused(data: st.DataObject) -> None:
    _survives(data)


@pytest.mark.slow
@settings(max_examples=1500, deadline=timedelta(minutes=2))
@given(st.data())
def test_many_damaged_documents_are_cleaned_or_refused(data: st.DataObject) -> None:
    _survives(data)


_SEED = _bytes(_pdf(_REPORT, "Lung clear"), static_id=True)


def _survives(data: st.DataObject) -> None:
    made = bytearray(_SEED)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(made) - 1))
        made[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    try:
        cleaned = clean_pdf(bytes(made), _MATCHER)
    except Unsafe:
        return
    whole = _everything(cleaned.data)
    assert "Kowalczewski" not in whole
    _text(cleaned.data)
