"""Plain text, HTML and RTF: names go however markup or character sets hide them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.deid.documents import clean_document
from node.deid.documents.hypertext import html_text
from node.deid.documents.plain import rtf_text, strip_markup
from node.deid.identifiers import Known, Matcher
from node.deid.reading import Unsafe

_MATCHER = Matcher(
    Known(persons=frozenset({"Müllenbrück^Jörgen", "王^建国=Wang^Jianguo", "Кузнецова^Людмила"}))
)


@pytest.mark.parametrize(
    ("text", "encoding", "declared"),
    [
        ("Müllenbrück: Knoten", "utf-8", ()),
        ("Müllenbrück: Knoten", "latin-1", ("latin_1",)),
        ("Müllenbrück: Knoten", "latin-1", ()),
        ("Müllenbrück: Knoten", "utf-16", ()),
        ("Müllenbrück: Knoten", "utf-8-sig", ()),
        ("王建国 肺 Knoten", "gb18030", ("gb18030",)),
        ("王建国 肺 Knoten", "gb18030", ()),
        ("王建国 肺 Knoten", "gb18030", ("utf_8",)),
        ("王建国 肺 Knoten", "utf-8", ("gb18030",)),
        ("Кузнецова Knoten", "cp1251", ()),
        ("Кузнецова Knoten", "iso8859_5", ("iso8859_5",)),
        ("Jorgen Mullenbruck, Knoten", "ascii", ()),
    ],
)
def test_plain_text_is_cleaned_in_the_character_set_that_it_has(
    text: str, encoding: str, declared: tuple[str, ...]
) -> None:
    cleaned = clean_document(
        text.encode(encoding) + b"\0", "text/plain", _MATCHER, encodings=declared
    )
    assert "Knoten" in cleaned.data.decode() and "***" in cleaned.data.decode()
    for name in ("ullenbr", "üllenbr", "王", "建国", "Кузнец"):
        assert name not in cleaned.data.decode()


@pytest.mark.parametrize(
    "markup",
    [
        "<p>M&uuml;llenbr&#252;ck nodule</p>",
        "<p><b>M</b>üllenbr<i>ück</i> nodule</p>",
        "<p title='Müllenbrück'>nodule</p>",
        "<!-- Müllenbrück --><p>nodule</p>",
        "<script>var a='Müllenbrück'</script><p>nodule</p>",
        "<head><title>Müllenbrück</title></head><p>nodule</p>",
        "<p>nodule</p><style>.Müllenbrück{}</style>",
        "<p>J&ouml;rgen</p> <p>nodule</p>",
        "<img alt='Müllenbrück' src=x><p>nodule",
        "<p>nodule <a href='mailto:x@y.example'>x@y.example</a>",
    ],
)
def test_html_comes_out_with_its_cleaned_words_only(markup: str) -> None:
    cleaned = clean_document(markup.encode(), "text/html", _MATCHER).data.decode()
    assert "nodule" in cleaned
    for name in ("llenbr", "rgen", "y.example", "script", "&uuml;"):
        assert name not in cleaned.replace("Dr", "")


@pytest.mark.parametrize(
    "body",
    [
        r"M\'fcllenbr\'fcck nodule",
        r"M\u252?llenbr\u252?ck nodule",
        r"{\b M\'fc}llenbr{\i \'fcck} nodule",
        r"{\info{\author M\'fcllenbr\'fcck}}nodule",
        r"{\*\userprops M\'fcllenbr\'fcck}nodule",
        r"J\'f6rgen\par nodule",
        r"\uc2\u29579??\u24314??\u22269?? nodule",
        r"{\field{\*\fldinst HYPERLINK M\'fcllenbr\'fcck}{\fldrslt nodule}}",
        r"{\pict 89504e47}nodule",
        r"{\v M\'fcllenbr\'fcck}nodule",
    ],
)
def test_rtf_comes_out_with_its_cleaned_words_only(body: str) -> None:
    made = (r"{\rtf1\ansi\ansicpg1252 " + body + "}").encode("ascii")
    cleaned = clean_document(made, "application/rtf", _MATCHER).data
    words = rtf_text(cleaned.decode("ascii"))
    assert "nodule" in words
    for name in ("llenbr", "rgen", "王", "建国", "89504e47"):
        assert name not in words


def test_rtf_in_a_chinese_code_page_is_read_in_it() -> None:
    body = "".join(rf"\'{byte:02x}" for byte in "王建国 肺".encode("gbk"))
    cleaned = clean_document(rf"{{\rtf1\ansicpg936 {body}}}".encode(), "text/rtf", _MATCHER).data
    assert rtf_text(cleaned.decode()) == "*** 肺"


@pytest.mark.parametrize(
    ("markup", "words"),
    [
        ("<p>a &lt; b</p><p>c</p>", "a < b\nc"),
        ("size <5 mm, 2<3", "size <5 mm, 2<3"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<a title='x > y'>b</a>c", "bc"),
        ('<p class=">">a', "a"),
        ("<p title=it's>a</p>b", "a\nb"),
        ("a<!-- b > c -->d", "ad"),
        ("a<!-- never closed", "a"),
        ("<head><style>x</style><title>t</title></head><body>a", "a"),
        ("<head><meta><body>a", "a"),
        ("<SCRIPT>a</b></Script >b", "b"),
        ("a<?xml b?>c<![CDATA[d]]>e", "ace"),
        ("a</ >b", "ab"),
        ("<td>a</td><td>b</td>", "a\nb"),
        ("&#x41;&nbsp;&copy;&bogus;", "A\xa0©&bogus;"),
    ],
)
def test_the_words_of_a_page_are_read_as_a_browser_shows_them(markup: str, words: str) -> None:
    assert html_text(markup) == words


_UNITS = ("<", "<!", "<!--", "<![CDATA[", "<a ", "<a b='", '<a b="', "&", "&#", "</", "<?", "<p>a",
          "<script>", "<head>", "</script", "<a '>")  # fmt: skip


@pytest.mark.parametrize("unit", _UNITS)
def test_a_page_that_repeats_itself_is_read_in_linear_time(unit: str) -> None:
    html_text(unit * 100_000)


@pytest.mark.parametrize("unit", ["{", "}", "\\'41", "\\u65?", "\\bin99 ", "{\\v a}", "\\", "a "])
def test_a_rich_text_that_repeats_itself_is_read_in_linear_time(unit: str) -> None:
    rtf_text("{\\rtf1 " + unit * 50_000)


def test_markup_in_an_attribute_is_told_from_text() -> None:
    assert strip_markup("<p>a &amp; b</p>") == "a & b"
    assert strip_markup(r"{\rtf1 a\par b}") == "a\nb"
    assert strip_markup("a < b") is None
    assert strip_markup("<5 mm nodule") is None


@pytest.mark.parametrize("mime", ["text/rtf", "application/rtf"])
def test_what_is_no_rtf_is_refused(mime: str) -> None:
    with pytest.raises(Unsafe, match="unreadable-document"):
        clean_document(b"Knoten", mime, _MATCHER)


def test_a_type_that_is_not_known_is_refused() -> None:
    for mime in ("application/zip", "application/msword", "text/csv", "video/mp4"):
        with pytest.raises(Unsafe, match="unknown-document"):
            clean_document(b"Knoten", mime, _MATCHER)


@given(st.text(alphabet="abü王\n\t {}\\<>&\0\x1b", max_size=40))
def test_words_are_written_in_rtf_and_read_again(text: str) -> None:
    escaped = "".join(f"\\u{ord(c)}?" for c in text)
    made = clean_document(b"{\\rtf1 " + escaped.encode() + b"}", "text/rtf", Matcher(Known()))
    plain = "".join(c if c >= " " or c == "\n" else " " for c in text)
    assert rtf_text(made.data.decode()).split() == plain.split()


@settings(deadline=timedelta(minutes=2))
@given(st.binary(max_size=300), st.sampled_from(["text/plain", "text/html", "text/rtf"]))
def test_any_bytes_are_cleaned_or_refused(data: bytes, mime: str) -> None:
    for made in (data, b"{\\rtf1" + data, b"<html>" + data):
        try:
            clean_document(made, mime, _MATCHER).data.decode("utf-8")
        except Unsafe:
            continue


@given(st.lists(st.sampled_from(["\\u", "\\'", "{", "}", "\\bin", "9", "-1", "\\uc0", "\\ansicpg",
                                 "\\*", "\\v", " ", "a", "\\ud800", "99999999999"])))  # fmt: skip
def test_any_rtf_has_words(parts: list[str]) -> None:
    rtf_text("{\\rtf1" + "".join(parts)).encode()


@given(st.lists(st.sampled_from(["<p>", "</p>", "<script>", "</script>", "&#x", "&#99999999;",
                                 "<!--",
                                 "a", "<", ">", "<![CDATA[", "<br", "'", '"'])))  # fmt: skip
def test_any_html_has_words(parts: list[str]) -> None:
    html_text("".join(parts))
