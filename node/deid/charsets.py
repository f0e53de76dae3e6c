"""Text of DICOM files in the character sets that they declare, and in those that they really have.

Specific Character Set (0008,0005) names how text is encoded (PS3.3 section C.12.1.1.2, PS3.5
section 6.1 and annexes H to K). Real files name none, or the wrong one: a text whose bytes don't
fit is also read in the encodings that its bytes do fit, because a name must be found either way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

Charset = tuple[str, ...]
"""The values of Specific Character Set; () is the default repertoire."""

# Defined terms of PS3.3 tables C.12-2, C.12-4 and C.12-5, by Python codec.
_SINGLE = {
    "": "ascii",
    "ISO_IR 6": "ascii",
    "ISO_IR 100": "latin_1",
    "ISO_IR 101": "iso8859_2",
    "ISO_IR 109": "iso8859_3",
    "ISO_IR 110": "iso8859_4",
    "ISO_IR 144": "iso8859_5",
    "ISO_IR 127": "iso8859_6",
    "ISO_IR 126": "iso8859_7",
    "ISO_IR 138": "iso8859_8",
    "ISO_IR 148": "iso8859_9",
    "ISO_IR 203": "iso8859_15",
    "ISO_IR 166": "tis_620",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 192": "utf_8",
    "GB18030": "gb18030",
    "GBK": "gbk",
}
# Escape sequences of PS3.3 tables C.12-3 and C.12-4: (codec, bytes that the codec wants before,
# whether the set is in G0, with seven bits).
_ESCAPES: dict[bytes, tuple[str, str]] = {
    b"\x1b(B": ("ascii", ""),
    b"\x1b-A": ("latin_1", ""),
    b"\x1b-B": ("iso8859_2", ""),
    b"\x1b-C": ("iso8859_3", ""),
    b"\x1b-D": ("iso8859_4", ""),
    b"\x1b-L": ("iso8859_5", ""),
    b"\x1b-G": ("iso8859_6", ""),
    b"\x1b-F": ("iso8859_7", ""),
    b"\x1b-H": ("iso8859_8", ""),
    b"\x1b-M": ("iso8859_9", ""),
    b"\x1b-b": ("iso8859_15", ""),
    b"\x1b-T": ("tis_620", ""),
    b"\x1b)I": ("shift_jis", ""),
    b"\x1b(J": ("shift_jis", ""),
    b"\x1b$B": ("iso2022_jp", "\x1b$B"),
    b"\x1b$@": ("iso2022_jp", "\x1b$@"),
    b"\x1b$(D": ("iso2022_jp_2", "\x1b$(D"),
    b"\x1b$)C": ("euc_kr", ""),
    b"\x1b$)A": ("gb2312", ""),
}
_WRITTEN = {
    "ISO 2022 IR 100": b"\x1b-A",
    "ISO 2022 IR 101": b"\x1b-B",
    "ISO 2022 IR 109": b"\x1b-C",
    "ISO 2022 IR 110": b"\x1b-D",
    "ISO 2022 IR 144": b"\x1b-L",
    "ISO 2022 IR 127": b"\x1b-G",
    "ISO 2022 IR 126": b"\x1b-F",
    "ISO 2022 IR 138": b"\x1b-H",
    "ISO 2022 IR 148": b"\x1b-M",
    "ISO 2022 IR 203": b"\x1b-b",
    "ISO 2022 IR 166": b"\x1b-T",
    "ISO 2022 IR 13": b"\x1b)I",
    "ISO 2022 IR 87": b"\x1b$B",
    "ISO 2022 IR 159": b"\x1b$(D",
    "ISO 2022 IR 149": b"\x1b$)C",
    "ISO 2022 IR 58": b"\x1b$)A",
}
_ESCAPE = re.compile(rb"\x1b(?:[(][BJ]|[)]I|-[A-Za-z]|\$[(]D|\$[)][AC]|\$[B@])")
_GUESSES = ("utf_8", "gb18030", "shift_jis", "euc_kr", "iso8859_5", "cp1251", "latin_1")
_ASCII = re.compile(rb"[\x00-\x1a\x1c-\x7f]*")
_PAIRS = re.compile(rb"(?:[\x00-\x7f]|[\xa1-\xfe]{2})*")
_PAIR = re.compile(rb"[\xa1-\xfe]{2}")
_COMMON = range(0xB0, 0xD8)
_KANA = (0xA4, 0xA5)
_LAST_HANGUL, _FIRST_CYRILLIC = 0xC8, 0xB0
_FEWEST_PAIRS = 4
_UNDECLARED = ("iso8859_5", "cp1251")
_BYTEWISE = frozenset(set(_SINGLE.values()) - {"shift_jis", "utf_8", "gb18030", "gbk"})
_DELIMITER = re.compile(r"[\\^=\r\n\f\t]")
_DELIMITED = re.compile(rb"(?=[\\^=\r\n\f\t])")
_RUN = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]+")


def parse_charset(raw: bytes) -> Charset:
    """Return the values of a Specific Character Set."""
    return _parse(bytes(raw))


@lru_cache(maxsize=1024)
def _parse(raw: bytes) -> Charset:
    values = [part.strip(" \0") for part in raw.decode("latin-1").upper().split("\\")]
    values = [value.replace("ISO-IR", "ISO_IR").replace("ISO IR", "ISO_IR") for value in values]
    return tuple(values) if any(values) else ()


def decode(raw: bytes, charset: Charset) -> str:
    """Return the text of ``raw``; bytes that don't fit become what Latin-1 makes of them."""
    if _ASCII.fullmatch(raw):
        return raw.decode("ascii")
    if b"\x1b" in raw:
        return _decode_escapes(raw, charset)
    return _decode(raw, _codec(charset))


def readings(raw: bytes, charset: Charset) -> list[tuple[str, str]]:
    """Return the text in every encoding that its bytes may be in: (text, codec), declared first.

    The declared reading's codec is "". Plain ASCII has one reading.
    """
    if _ASCII.fullmatch(raw):
        return [(raw.decode("ascii"), "")]
    found = {decode(raw, charset): ""}
    if b"\x1b" in raw or (_codec(charset) == "utf_8" and _fits(raw, "utf_8")):
        return list(found.items())
    for codec in _GUESSES:
        try:
            found.setdefault(raw.decode(codec), codec)
        except UnicodeDecodeError:
            continue
    return list(found.items())


def likeliest(raw: bytes, charset: Charset) -> tuple[str, str]:
    """Return the text in the encoding that its bytes most likely have: (text, codec).

    The codec is "" for the declared set. Bytes that are UTF-8 are taken for it, since other text
    hardly ever is; where Latin-1 is declared, or nothing, pairs of high bytes are taken for
    GB 18030, and where another set of single bytes is, what is Chinese by its characters.
    """
    if _ASCII.fullmatch(raw):
        return raw.decode("ascii"), ""
    if b"\x1b" in raw:
        return _decode_escapes(raw, charset), ""
    codec = _codec(charset)
    for guess in ("utf_8", codec if codec not in _BYTEWISE else "", "gb18030"):
        if guess and (guess != "gb18030" or guess == codec or _may_be_chinese(raw, codec)):
            try:
                return raw.decode(guess), "" if guess == codec else guess
            except UnicodeDecodeError:
                continue
    if codec == "ascii":
        return raw.decode("latin_1"), "latin_1"
    try:
        return raw.decode(codec), ""
    except UnicodeDecodeError:
        return raw.decode("latin_1"), "latin_1"


def plausible(raw: bytes, charset: Charset) -> list[str]:
    """Return the text as it is most likely, as it is declared, and as it may be undeclared.

    What is known of a patient is to be found however the file's other texts are read.
    """
    texts = [likeliest(raw, charset)[0]]
    if _ASCII.fullmatch(raw) or b"\x1b" in raw or _fits(raw, "utf_8"):
        return texts
    texts.append(decode(raw, charset))
    if _codec(charset) in ("ascii", "latin_1"):
        texts += [raw.decode(codec) for codec in _UNDECLARED if _fits(raw, codec)]
    return list(dict.fromkeys(texts))


def looks_chinese(raws: Iterable[bytes]) -> bool:
    """Say whether values are GB 18030 by their bytes beyond ASCII: pairs, and Chinese characters.

    Most of those are of the common ones (GB 2312, level 1), spread over all first and second
    bytes. Letters in pairs are not: those of Latin-1 lie beyond the common ones, those of Cyrillic
    sets have no second bytes below 0xB0, Korean syllables no first ones beyond 0xC8, and Japanese
    has kana.
    """
    found = [raw for raw in raws if not _ASCII.fullmatch(raw)]
    if not all(_PAIRS.fullmatch(raw) for raw in found):
        return False
    pairs = [pair for raw in found for pair in _PAIR.findall(raw)]
    if len(pairs) < _FEWEST_PAIRS or any(pair[0] in _KANA for pair in pairs):
        return False
    common = sum(pair[0] in _COMMON for pair in pairs)
    late = sum(pair[0] > _LAST_HANGUL for pair in pairs)
    low = sum(pair[1] < _FIRST_CYRILLIC for pair in pairs)
    count = len(pairs)
    return common >= 0.6 * count and late >= 0.1 * count and low >= max(0.04 * count, 1)


def _may_be_chinese(raw: bytes, codec: str) -> bool:
    if codec in ("ascii", "latin_1"):
        return _PAIRS.fullmatch(raw) is not None
    return looks_chinese([raw])


def encode(text: str, charset: Charset, codec: str = "") -> bytes:
    """Return the bytes of ``text``, in the charset or in the ``codec`` that it was read in.

    What can't be encoded becomes a question mark.
    """
    if text.isascii():
        return text.encode("ascii")
    if codec:
        return text.encode(codec, "replace")
    if len(charset) > 1 or any(name.startswith("ISO 2022") for name in charset):
        return _encode_escapes(text, charset)
    main = _codec(charset)
    return text.encode("latin_1" if main == "ascii" else main, "replace")


def is_single_byte(charset: Charset) -> bool:
    """Say whether the first set has one byte for each character, or is the default repertoire."""
    return _codec(charset) in _BYTEWISE


def _codec(charset: Charset) -> str:
    first = charset[0].replace("ISO 2022 IR", "ISO_IR") if charset else ""
    return _SINGLE.get(first, "ascii")


def _decode(raw: bytes, codec: str) -> str:
    try:
        return raw.decode("latin_1" if codec == "ascii" else codec)
    except UnicodeDecodeError:
        return raw.decode("latin_1")


def _fits(raw: bytes, codec: str) -> bool:
    try:
        raw.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _decode_escapes(raw: bytes, charset: Charset) -> str:
    parts: list[str] = []
    codec, prefix, position = _codec(charset), "", 0
    for escape in [*_ESCAPE.finditer(raw), None]:
        end = len(raw) if escape is None else escape.start()
        piece = raw[position:end]
        if prefix:
            parts.append(_decode_double(piece, codec, prefix))
        elif (main := _codec(charset)) in (codec, "ascii"):
            parts.append(_decode(piece, codec))
        else:
            # A delimiter ends a designation (PS3.5 section 6.1.2.5.3).
            first, *rest = _DELIMITED.split(piece, maxsplit=1)
            parts.append(_decode(first, codec))
            parts += [_decode(part, main) for part in rest]
        if escape is not None:
            found = _ESCAPES.get(escape.group())
            codec, prefix = found or (_codec(charset), "")
            position = escape.end()
    return "".join(parts)


def _decode_double(piece: bytes, codec: str, prefix: str) -> str:
    # A set of two bytes in G0 holds until an escape or a delimiter ends it.
    parts = re.split(rb"([\r\n\f\t])", piece)
    decoded = []
    for part in parts:
        try:
            decoded.append((prefix.encode() + part).decode(codec) if part else "")
        except UnicodeDecodeError:
            decoded.append(part.decode("latin_1"))
    return "".join(decoded)


def _encode_escapes(text: str, charset: Charset) -> bytes:
    """Encode with code extensions: what the first set has in it, all else after an escape."""
    main = _codec(charset)
    encoded: list[bytes] = []
    is_main = True
    for run in _RUN.findall(text):
        if run.isascii():
            encoded.append(run.encode("ascii"))
            is_main = is_main or _DELIMITER.search(run) is not None
            continue
        plain = _encode_in(run, main) if main != "ascii" else None
        if plain is not None:
            encoded.append(plain if is_main else _WRITTEN.get(charset[0], b"") + plain)
            is_main = True
            continue
        for piece in [run] if _extended(run, charset) else run:
            extended = _extended(piece, charset)
            encoded.append(b"?" if extended is None else extended)
        is_main = False
    return b"".join(encoded)


def _extended(run: str, charset: Charset) -> bytes | None:
    """Return a run in one of the further sets, with its escapes; None if none has all of it."""
    for name in charset:
        escape = _WRITTEN.get(name)
        if escape is None:
            continue
        codec, prefix = _ESCAPES[escape]
        encoded = _encode_in(run, codec)
        if encoded is None or (prefix and not encoded.startswith(escape)):
            continue
        if prefix:
            return encoded if encoded.endswith(b"\x1b(B") else encoded + b"\x1b(B"
        return escape + encoded
    return None


def _encode_in(run: str, codec: str) -> bytes | None:
    try:
        return run.encode(codec)
    except UnicodeEncodeError:
        return None
