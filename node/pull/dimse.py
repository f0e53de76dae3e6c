"""An archive asked by C-ECHO, C-FIND and C-GET or C-MOVE (PS3.4 annex C, Study Root)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from contract.errors import Unavailable, WardgateError
from node.pull.archive import (
    ArchiveRefused,
    FoundSeries,
    FoundStudy,
    Interrupted,
    Receiver,
    Wanted,
    is_uid,
)
from node.pull.associations import (
    accepts,
    associate,
    bounded_message,
    bounded_socket,
)
from node.pull.contexts import COMMON_CLASSES, batches, offers
from node.pull.listener import Listener
from node.pull.part10 import PREAMBLE
from node.pull.question import Question
from node.pull.settings import DicomArchive

VERIFICATION = "1.2.840.10008.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
SUCCESS = 0x0000
PENDING = (0xFF00, 0xFF01)
CANCELLED = 0xFE00
OUT_OF_RESOURCES = 0xA700
NOT_AUTHORISED = 0x0124
MESSAGE = 1
MOST_CLASSES = 4
"""With so many classes in an association, each may come in any transfer syntax."""
_MOVE_PATIENCE = 10
"""C-MOVE needs no answer before its end (PS3.4 C.4.2.2), so it may stay silent for longer."""


class DimseArchive:
    """One archive, asked by one thread. C-MOVE needs the listener that its instances go to."""

    def __init__(
        self, settings: DicomArchive, timeout_seconds: float, listener: Listener | None = None
    ) -> None:
        self._settings = settings
        self._timeout = timeout_seconds
        self._listener = listener
        self._finder: Any = None

    def test(self) -> str:
        """Ask C-ECHO, and whether the archive accepts what finding and retrieving need."""
        needed = {
            VERIFICATION: "C-ECHO",
            STUDY_ROOT_FIND: "C-FIND",
            self._model: "C-GET" if self._settings.retrieve == "get" else "C-MOVE",
        }
        association = associate(self._settings, _contexts(needed), self._timeout)
        try:
            missing = [name for uid, name in needed.items() if not accepts(association, uid)]
            if missing:
                raise ArchiveRefused(f"The archive doesn't offer {' or '.join(missing)}.")
            status = association.send_c_echo()
            if getattr(status, "Status", None) != SUCCESS:
                raise Unavailable("The archive didn't answer C-ECHO with success.")
        finally:
            _release(association)
        return f"{', '.join(needed.values())} accepted"

    def studies(self, question: Question) -> Iterator[FoundStudy]:
        """Yield the studies that fit, each once."""
        keys = question.study_keys()
        returned = (
            *("StudyInstanceUID", "StudyDate", "ModalitiesInStudy"),
            *("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances"),
        )
        seen: set[str] = set()
        for found in self._find("STUDY", keys, returned):
            uid = found["StudyInstanceUID"][0] if found["StudyInstanceUID"] else ""
            if is_uid(uid) and uid not in seen and question.admits_study(found):
                seen.add(uid)
                yield FoundStudy(
                    uid,
                    count_of(found["NumberOfStudyRelatedSeries"]),
                    count_of(found["NumberOfStudyRelatedInstances"]),
                )

    def series(self, study_uid: str, question: Question) -> list[FoundSeries]:
        """Return the series of a study that fit."""
        keys = {"StudyInstanceUID": study_uid} | question.series_keys()
        returned = (
            *("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances"),
            *(("BodyPartExamined",) if question.body_part else ()),
        )
        series: dict[str, FoundSeries] = {}
        for found in self._find("SERIES", keys, returned):
            uid = found["SeriesInstanceUID"][0] if found["SeriesInstanceUID"] else ""
            if is_uid(uid) and question.admits_series(found):
                series[uid] = FoundSeries(uid, count_of(found["NumberOfSeriesRelatedInstances"]))
        return list(series.values())

    def instances(self, study_uid: str, series_uid: str) -> dict[str, str]:
        """Return the instances of a series with their SOP class; empty if they aren't listed."""
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        instances: dict[str, str] = {}
        for found in self._find("IMAGE", keys, ("SOPInstanceUID", "SOPClassUID")):
            uid = found["SOPInstanceUID"][0] if found["SOPInstanceUID"] else ""
            sop_class = found["SOPClassUID"][0] if found["SOPClassUID"] else ""
            if is_uid(uid):
                instances[uid] = sop_class if is_uid(sop_class) else ""
        return instances

    def retrieve(self, wanted: Wanted, receiver: Receiver) -> None:
        """Have the instances sent: the series at once, or lots of its instances."""
        classes = dict.fromkeys(wanted.classes.values())
        known = wanted.listed and "" not in classes
        if wanted.whole and (not known or len(classes) <= MOST_CLASSES):
            self._send({}, list(classes) if known else COMMON_CLASSES, wanted, receiver)
            return
        lots = batches(wanted.classes, MOST_CLASSES if known else len(classes))
        for lot in lots:
            offered = list(dict.fromkeys(lot.values())) if known else COMMON_CLASSES
            self._send(lot, offered, wanted, receiver)

    def close(self) -> None:
        """End the connection."""
        if self._finder is not None:
            _release(self._finder)
            self._finder = None

    @property
    def _model(self) -> str:
        return STUDY_ROOT_GET if self._settings.retrieve == "get" else STUDY_ROOT_MOVE

    # ---- finding -------------------------------------------------------------------------------

    def _find(
        self, level: str, keys: Mapping[str, str], returned: Sequence[str]
    ) -> Iterator[dict[str, list[str]]]:
        keywords = list(dict.fromkeys([*keys, *returned]))
        identifier = _identifier(level, {keyword: keys.get(keyword, "") for keyword in keywords})
        if self._finder is None or not self._finder.is_established:
            self._finder = associate(self._settings, _contexts([STUDY_ROOT_FIND]), self._timeout)
        complete = False
        try:
            for status, found in self._finder.send_c_find(identifier, STUDY_ROOT_FIND):
                code = getattr(status, "Status", None)
                if code == SUCCESS:
                    break
                if code is None or code & 0xFF00 == OUT_OF_RESOURCES:
                    raise Unavailable("The archive broke off the query; try again later.")
                if code not in PENDING:
                    raise ArchiveRefused(f"The archive can't answer this query (0x{code:04X}).")
                if found is None:
                    raise Unavailable("The archive's answer to the query can't be read.")
                yield {keyword: _values(found, keyword) for keyword in keywords}
            complete = True
        finally:
            if not complete:
                # Answers that nobody reads may still come.
                self._finder.abort()
                self._finder = None

    # ---- retrieving ----------------------------------------------------------------------------

    def _send(
        self, lot: Mapping[str, str], classes: Sequence[str], wanted: Wanted, receiver: Receiver
    ) -> None:
        place = {"StudyInstanceUID": wanted.study_uid, "SeriesInstanceUID": wanted.series_uid}
        if lot:
            identifier = _identifier("IMAGE", place | {"SOPInstanceUID": list(lot)})
        else:
            identifier = _identifier("SERIES", place)
        if receiver.stopping():
            raise Interrupted("The retrieval was broken off.")
        if self._settings.retrieve == "get":
            self._get(identifier, classes, receiver)
        else:
            self._move(identifier, receiver)

    def _get(self, identifier: Any, classes: Sequence[str], receiver: Receiver) -> None:
        from pynetdicom import build_context, build_role, evt

        store = _Store(receiver)
        association = associate(
            self._settings,
            [
                build_context(STUDY_ROOT_GET),
                *(
                    build_context(offer.sop_class, list(offer.syntaxes))
                    for offer in offers(classes)
                ),
            ],
            self._timeout,
            negotiation=[build_role(uid, scp_role=True) for uid in dict.fromkeys(classes)],
            handlers=[
                (evt.EVT_CONN_OPEN, bounded_socket, [receiver]),
                (evt.EVT_PDU_RECV, bounded_message, [receiver]),
                (evt.EVT_C_STORE, store),
            ],
        )
        if not accepts(association, STUDY_ROOT_GET):
            _release(association)
            raise ArchiveRefused('The archive doesn\'t offer C-GET; set retrieve = "move".')
        _follow(association, association.send_c_get(identifier, STUDY_ROOT_GET), store)

    def _move(self, identifier: Any, receiver: Receiver) -> None:
        if self._listener is None:
            raise Unavailable("Nothing listens for what C-MOVE would send.")
        association = associate(self._settings, _contexts([STUDY_ROOT_MOVE]), self._timeout)
        association.dimse_timeout = self._timeout * _MOVE_PATIENCE
        store = _Store(receiver)
        with self._listener.receiving(store):
            responses = association.send_c_move(
                identifier, self._settings.our_ae_title, STUDY_ROOT_MOVE
            )
            _follow(association, responses, store)


class _Store:
    """Handles C-STORE sub-operations: one durable arrival each, before success is answered."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.error: WardgateError | None = None
        self.completed = 0

    def __call__(self, event: Any) -> int:
        from pynetdicom.dsutils import encode_file_meta

        request = event.request
        uid = str(request.AffectedSOPInstanceUID or "")
        if self.error is not None:
            return OUT_OF_RESOURCES
        if not self.receiver.expects(uid):
            return NOT_AUTHORISED
        if request.DataSet.getbuffer().nbytes > self.receiver.largest_bytes:
            self.receiver.too_large(uid)
            return OUT_OF_RESOURCES
        try:
            with self.receiver.arrival(uid) as arrival, request.DataSet.getbuffer() as data:
                arrival.write(PREAMBLE)
                arrival.write(encode_file_meta(event.file_meta))
                arrival.write(data)
                arrival.commit()
                size = len(data)
            self.completed += 1
            self.receiver.arrived(uid, size)
        except WardgateError as error:
            self.error = error
            return OUT_OF_RESOURCES
        except Exception as error:
            # pynetdicom would only log it.
            self.error = Unavailable(f"An instance couldn't be taken ({type(error).__name__}).")
            return OUT_OF_RESOURCES
        return SUCCESS

    @property
    def ended(self) -> bool:
        """Say whether the archive should send nothing more."""
        return self.error is not None or self.receiver.stopping()


def _follow(association: Any, responses: Iterator[tuple[Any, Any]], store: _Store) -> None:
    """Follow C-GET or C-MOVE to its end; cancel it when it should end early."""
    code: int | None = None
    cancelled = False
    try:
        for status, _ in responses:
            code = getattr(status, "Status", None)
            if store.ended and not cancelled and code in PENDING:
                cancelled = True
                model = next(iter(association.accepted_contexts)).abstract_syntax
                association.send_c_cancel(MESSAGE, query_model=model)
    finally:
        _release(association)
    if store.error is not None:
        raise store.error
    if cancelled:
        raise Interrupted("The retrieval was broken off.")
    if code is None or code == CANCELLED:
        raise Unavailable("The archive broke off the retrieval; try again later.")
    if code == 0xA801:
        raise ArchiveRefused("The archive doesn't know our title as a destination of C-MOVE.")
    if code != SUCCESS and not store.completed:
        raise Unavailable(f"The archive sent nothing (status 0x{code:04X}).")


def count_of(values: Sequence[str]) -> int:
    """Return a number of series or instances that an archive says; 0 if it doesn't."""
    text = values[0] if values else ""
    return min(int(text), 10**7) if text.isascii() and text.isdigit() and len(text) < 12 else 0


def _contexts(classes: Sequence[str] | Mapping[str, str]) -> list[Any]:
    from pynetdicom import build_context

    return [build_context(uid) for uid in dict.fromkeys(classes)]


def _identifier(level: str, keys: Mapping[str, str | list[str]]) -> Any:
    from pydicom.dataset import Dataset

    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
        if isinstance(value, str) and not value.isascii():
            identifier.SpecificCharacterSet = "ISO_IR 192"
    return identifier


def _values(found: Any, keyword: str) -> list[str]:
    try:
        value = found.get(keyword)
    except Exception:  # what an archive sends may be of any shape
        return []
    if value is None:
        return []
    values = value if isinstance(value, list) or hasattr(value, "append") else [value]
    return [str(item).strip(" \0") for item in values]


def _release(association: Any) -> None:
    if association.is_established:
        association.release()
    elif association.is_alive():
        association.abort()
