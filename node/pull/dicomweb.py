"""An archive asked by QIDO-RS and WADO-RS (PS3.18 chapter 10)."""

from __future__ import annotations

import base64
import json
import logging
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from contract.errors import (
    CertificateError,
    ConfigurationError,
    DataError,
    Unavailable,
)
from foundation.files import read_bounded
from node.multipart import Event, Malformed, PartBegins, PartData, PartEnds, parts, related
from node.pull.archive import (
    ArchiveRefused,
    Arrival,
    FoundSeries,
    FoundStudy,
    Interrupted,
    Receiver,
    Wanted,
    is_uid,
)
from node.pull.dimse import count_of
from node.pull.part10 import HEAD_BYTES, instances_of
from node.pull.question import Question
from node.pull.settings import DicomwebArchive

if TYPE_CHECKING:
    import httpx

MAX_ANSWER_BYTES = 64 * 2**20
MOST_PAGES = 100_000
_CHUNK = 256 * 1024
_FILES = 'multipart/related; type="application/dicom"'
_AS_STORED = _FILES + "; transfer-syntax=*"
"""Each instance in the syntax that it is stored in (PS3.18 section 8.7.3)."""
TAGS = {
    "AccessionNumber": "00080050",
    "BodyPartExamined": "00180015",
    "Modality": "00080060",
    "ModalitiesInStudy": "00080061",
    "NumberOfSeriesRelatedInstances": "00201209",
    "NumberOfStudyRelatedInstances": "00201208",
    "NumberOfStudyRelatedSeries": "00201206",
    "PatientID": "00100020",
    "SeriesInstanceUID": "0020000E",
    "SOPClassUID": "00080016",
    "SOPInstanceUID": "00080018",
    "StudyDate": "00080020",
    "StudyDescription": "00081030",
    "StudyInstanceUID": "0020000D",
}


class DicomwebClient:
    """One archive, asked by one thread."""

    def __init__(self, settings: DicomwebArchive, timeout_seconds: float) -> None:
        import httpx

        # They would log addresses, and a query's address holds a patient's number.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        self._settings = settings
        self._accept = _AS_STORED
        self._client = httpx.Client(
            verify=_tls(settings),
            headers=_credentials(settings) | {"Accept-Encoding": "identity"},
            timeout=timeout_seconds,
            follow_redirects=False,
            trust_env=False,
        )

    def test(self) -> str:
        """Ask QIDO-RS for one study."""
        self._page("studies", {"limit": "1"})
        return "QIDO-RS answers"

    def studies(self, question: Question) -> Iterator[FoundStudy]:
        """Yield the studies that fit, each once."""
        keys = question.study_keys()
        seen = False
        # Some servers don't decode what an address had to escape; a wildcard stands for it, and
        # each answer is checked.
        bare = {keyword: _bare(value) for keyword, value in keys.items()}
        for asked in (keys,) if keys == bare else (keys, bare):
            for study in self._studies(asked, question):
                seen = True
                yield study
            if seen:
                return

    def _studies(self, keys: Mapping[str, str], question: Question) -> Iterator[FoundStudy]:
        returned = [
            *("ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"),
            *keys,
        ]
        for uid, found in self._all("studies", keys, returned, "StudyInstanceUID"):
            if question.admits_study(found):
                yield FoundStudy(
                    uid,
                    count_of(found["NumberOfStudyRelatedSeries"]),
                    count_of(found["NumberOfStudyRelatedInstances"]),
                )

    def series(self, study_uid: str, question: Question) -> list[FoundSeries]:
        """Return the series of a study that fit."""
        returned = ["Modality", "NumberOfSeriesRelatedInstances", "BodyPartExamined"]
        path = f"studies/{_place(study_uid)}/series"
        return [
            FoundSeries(uid, count_of(found["NumberOfSeriesRelatedInstances"]))
            for uid, found in self._all(path, question.series_keys(), returned, "SeriesInstanceUID")
            if question.admits_series(found)
        ]

    def instances(self, study_uid: str, series_uid: str) -> dict[str, str]:
        """Return the instances of a series with their SOP class; empty if they aren't listed."""
        path = f"studies/{_place(study_uid)}/series/{_place(series_uid)}/instances"
        return {
            uid: found["SOPClassUID"][0] if found["SOPClassUID"] else ""
            for uid, found in self._all(path, {}, ["SOPClassUID"], "SOPInstanceUID")
        }

    def retrieve(self, wanted: Wanted, receiver: Receiver) -> None:
        """Have the instances sent: the series at once, or its instances one by one."""
        path = f"studies/{_place(wanted.study_uid)}/series/{_place(wanted.series_uid)}"
        if wanted.whole or not wanted.listed:
            self._files(path, receiver)
            return
        for uid in wanted.classes:
            if receiver.expects(uid):
                self._files(f"{path}/instances/{_place(uid)}", receiver)

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    # ---- QIDO-RS -------------------------------------------------------------------------------

    def _all(
        self, path: str, keys: Mapping[str, str], returned: list[str], by: str
    ) -> Iterator[tuple[str, dict[str, list[str]]]]:
        """Yield every match once, page by page; servers may make pages shorter than asked."""
        keywords = list(dict.fromkeys([by, *returned, *keys]))
        fields = [TAGS[keyword] for keyword in keywords]
        parameters: dict[str, str | list[str]] = {**keys, "includefield": fields}
        if "ModalitiesInStudy" not in keys:
            # Orthanc would take the limit first, and of those the studies of this modality.
            parameters["limit"] = str(self._settings.page)
        seen: set[str] = set()
        offset = 0
        for _ in range(MOST_PAGES):
            page = self._page(path, parameters | ({"offset": str(offset)} if offset else {}))
            new = 0
            for item in page:
                found = {keyword: _values(item, TAGS[keyword]) for keyword in keywords}
                uid = found[by][0] if found[by] else ""
                if is_uid(uid) and uid not in seen:
                    seen.add(uid)
                    new += 1
                    yield uid, found
            # A server that doesn't know offsets repeats itself.
            if not new:
                return
            offset += len(page)

    def _page(self, path: str, parameters: Mapping[str, str | list[str]]) -> list[dict[str, Any]]:
        with self._response(path, "application/dicom+json", parameters) as response:
            if response.status_code == 204:
                return []
            body = bytearray()
            for chunk in response.iter_raw(_CHUNK):
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise Unavailable("The archive's answer is too long; narrow the query.")
        try:
            page = json.loads(bytes(body) or b"[]")
        except (ValueError, RecursionError):
            raise Unavailable("The archive's answer is not DICOM JSON.") from None
        if not isinstance(page, list) or not all(isinstance(item, dict) for item in page):
            raise Unavailable("The archive's answer is not DICOM JSON.")
        return page

    # ---- WADO-RS -------------------------------------------------------------------------------

    def _files(self, path: str, receiver: Receiver) -> None:
        if receiver.stopping():
            raise Interrupted("The retrieval was broken off.")
        with self._response(path, self._accept, {}) as response:
            if response.status_code not in (406, 415) or self._accept != _AS_STORED:
                self._take(response, receiver)
                return
        # A server from before transfer-syntax=* sends what it likes.
        self._accept = _FILES
        self._files(path, receiver)

    def _take(self, response: httpx.Response, receiver: Receiver) -> None:
        if response.status_code in (204, 404, 406, 410, 415):
            return  # what didn't come is missed by its UID
        content_type = response.headers.get("content-type", "")
        chunks = _metered(response.iter_raw(_CHUNK), receiver)
        if content_type.partition(";")[0].strip().lower() == "application/dicom":
            pieces = _one_part(chunks)
        else:
            try:
                pieces = parts(chunks, related(content_type)[1])
            except Malformed:
                raise Unavailable("The archive's answer holds no DICOM files.") from None
        try:
            _receive(pieces, receiver)
        except Malformed:
            raise Unavailable("The archive broke off the retrieval; try again later.") from None

    @contextmanager
    def _response(
        self, path: str, accept: str, parameters: Mapping[str, str | list[str]]
    ) -> Iterator[httpx.Response]:
        import httpx

        try:
            with self._client.stream(
                "GET",
                f"{self._settings.url}/{path}{_query(parameters)}",
                headers={"Accept": accept},
            ) as response:
                _check(response, retrieving=accept.startswith("multipart"))
                yield response
        except httpx.TransportError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise CertificateError(
                    "The archive's certificate is not from a trusted authority; see ca_file."
                ) from None
            raise Unavailable("The archive can't be reached, or broke off.") from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise Unavailable("The archive's answer can't be read.") from None


def _receive(pieces: Iterator[Event], receiver: Receiver) -> None:
    """Write each part that is expected; a part says whose it is by its own first bytes."""
    for piece in pieces:
        if isinstance(piece, PartBegins):
            _receive_part(pieces, receiver)
            if receiver.stopping():
                raise Interrupted("The retrieval was broken off.")


def _receive_part(pieces: Iterator[Event], receiver: Receiver) -> None:
    head = bytearray()
    whole = False
    while len(head) < HEAD_BYTES and not whole:
        piece = next(pieces)
        if isinstance(piece, PartData):
            head += piece.data
        whole = isinstance(piece, PartEnds)
    uid = next(filter(receiver.expects, instances_of(head)), "")
    if not uid:
        while not whole:
            whole = isinstance(next(pieces), PartEnds)
        return
    with receiver.arrival(uid) as arrival:
        size = _write(arrival, head, pieces, receiver.largest_bytes, whole=whole)
        if size > receiver.largest_bytes:
            receiver.too_large(uid)
            return
        arrival.commit()
    receiver.arrived(uid, size)


def _write(
    arrival: Arrival, head: bytearray, pieces: Iterator[Event], most: int, *, whole: bool
) -> int:
    """Write a part to its end and return its size; what is past ``most`` is only counted."""
    size = len(head)
    arrival.write(head)
    while not whole:
        piece = next(pieces)
        if isinstance(piece, PartData):
            size += len(piece.data)
            if size <= most:
                arrival.write(piece.data)
        whole = isinstance(piece, PartEnds)
    return size


def _metered(chunks: Iterator[bytes], receiver: Receiver) -> Iterator[bytes]:
    for chunk in chunks:
        receiver.received(len(chunk))
        yield chunk


def _one_part(chunks: Iterator[bytes]) -> Iterator[Event]:
    yield PartBegins({})
    for chunk in chunks:
        yield PartData(chunk)
    yield PartEnds()


def _check(response: httpx.Response, *, retrieving: bool) -> None:
    code = response.status_code
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise Unavailable("The archive compresses its answers though it was asked not to.")
    if 200 <= code < 300 or (retrieving and code in (404, 406, 410, 415)):
        return
    if code in (401, 403):
        raise ArchiveRefused("The archive doesn't let us in; check its token or password file.")
    if 300 <= code < 400:
        raise ArchiveRefused("The archive sends us to another address; set url to that one.")
    if code in (408, 425, 429) or code >= 500:
        raise Unavailable(f"The archive can't answer now (HTTP {code}); try again later.")
    raise ArchiveRefused(f"The archive can't answer this request (HTTP {code}).")


def _values(item: Mapping[str, Any], tag: str) -> list[str]:
    """Return an attribute's values in the DICOM JSON model (PS3.18 annex F)."""
    attribute = item.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    if not isinstance(values, list):
        return []
    return [str(value).strip(" \0") for value in values if isinstance(value, str | int)]


def _query(parameters: Mapping[str, str | list[str]]) -> str:
    if not parameters:
        return ""
    # An asterisk needs no escape (RFC 3986 section 3.4), and not all servers undo one.
    return "?" + urlencode(parameters, doseq=True, safe="*?", quote_via=quote)


def _bare(value: str) -> str:
    """Return a pattern for ``value`` that needs no escape in an address."""
    # Not ?, which some servers take as one byte.
    return "".join(c if c.isascii() and (c.isalnum() or c in "-._~*?") else "*" for c in value)


def _place(uid: str) -> str:
    if not is_uid(uid):
        raise DataError("A UID of the archive is none.")
    return uid


def _tls(settings: DicomwebArchive) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(
            cafile=None if settings.ca_file is None else str(settings.ca_file)
        )
        if settings.certificate_file is not None and settings.key_file is not None:
            context.load_cert_chain(str(settings.certificate_file), str(settings.key_file))
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            "A TLS file of the archive can't be read, or is no PEM certificate or key."
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _credentials(settings: DicomwebArchive) -> dict[str, str]:
    path = settings.token_file or settings.basic_file
    if path is None:
        return {}
    secret = read_bounded(path, 16 * 1024).strip()
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(f"{path} can be read by others; set its mode to 0600.")
    if not secret or not secret.isascii() or any(byte < 0x20 for byte in secret):
        raise ConfigurationError(f"{path} is not one line of text.")
    if settings.token_file is not None:
        return {"Authorization": f"Bearer {secret.decode()}"}
    if b":" not in secret:
        raise ConfigurationError(f"{path} is not user:password.")
    return {"Authorization": f"Basic {base64.b64encode(secret).decode()}"}
