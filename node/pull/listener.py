"""Where C-MOVE's instances come: a storage SCP that takes only what is being asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

from contract.errors import Unavailable
from node.pull.archive import Receiver
from node.pull.associations import application, bounded_message, bounded_socket, server_context
from node.pull.contexts import COMMON_CLASSES, COMPRESSED, UNCOMPRESSED
from node.pull.settings import DicomArchive

NOT_AUTHORISED = 0x0124


class Store(Protocol):
    """One retrieval that instances may belong to."""

    @property
    def receiver(self) -> Receiver:
        """Where its instances go."""

    def __call__(self, event: Any) -> int:
        """Take one instance and return the status to answer."""


class Listener:
    """Listens while it is entered, under our title, to the archive's title alone.

    An instance that no retrieval under way expects is refused, whoever sends it.
    """

    def __init__(self, archive: DicomArchive, timeout_seconds: float, largest_bytes: int) -> None:
        self._archive = archive
        self._timeout = timeout_seconds
        self._largest_bytes = largest_bytes
        self._stores: list[Store] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        from pynetdicom import AllStoragePresentationContexts, build_context, evt

        archive = self._archive
        entity = application(archive.our_ae_title, self._timeout)
        entity.require_called_aet = True
        entity.require_calling_aet = [archive.ae_title]
        syntaxes = [*COMPRESSED, *UNCOMPRESSED]
        classes = {context.abstract_syntax for context in AllStoragePresentationContexts}
        try:
            self._server = entity.start_server(
                (archive.listen_host, archive.listen_port),
                block=False,
                ssl_context=server_context(archive),
                contexts=[build_context(uid, syntaxes) for uid in classes | set(COMMON_CLASSES)],
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, bounded_socket, [self]),
                    (evt.EVT_PDU_RECV, bounded_message, [self]),
                    (evt.EVT_C_STORE, self._take),
                ],
            )
        except OSError:
            raise Unavailable(
                f"Port {archive.listen_port} can't be listened on; is it taken?"
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()

    @contextmanager
    def receiving(self, store: Store) -> Iterator[None]:
        """Have instances go to ``store`` if its receiver expects them."""
        with self._lock:
            self._stores.append(store)
        try:
            yield
        finally:
            with self._lock:
                self._stores.remove(store)

    def _take(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID or "")
        with self._lock:
            store = next((s for s in self._stores if s.receiver.expects(uid)), None)
        return NOT_AUTHORISED if store is None else store(event)

    # ---- what is read before it is known whose it is ---------------------------------------------

    @property
    def largest_bytes(self) -> int:
        """What an instance may have at most."""
        return self._largest_bytes

    def received(self, size_bytes: int) -> None:
        """Account for bytes as they are read; all retrievals share one rate."""
        with self._lock:
            store = next(iter(self._stores), None)
        if store is not None:
            store.receiver.received(size_bytes)

    def too_large(self, sop_instance_uid: str) -> None:
        """Tell the retrieval that expects this instance."""
        with self._lock:
            store = next((s for s in self._stores if s.receiver.expects(sop_instance_uid)), None)
        if store is not None:
            store.receiver.too_large(sop_instance_uid)
