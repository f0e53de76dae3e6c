"""What the daemon and a ServerApp's process say to each other, over one Unix socket.

The process asks, the daemon answers; one question at a time. Tensors go to the daemon as memory
files beside the question (``BLOB``) and come back by name: the process sees the job's ``blobs``
folder, read-only, as ``/blobs``.

| question | message | answer |
|---|---|---|
| NODES | | the sites that are online, in roster order |
| PEEK | | the same, but not kept in the journal |
| BLOB | a ``BlobReference``; with it, a descriptor of its bytes | |
| MORE | the first parts of a PUSH, which has the last | |
| PUSH | site, ``wire.Task``, site, ``wire.Task``, ... | |
| WAIT | seconds or empty, task id, ... | task id, code, ... for each |
| PULL | task id, ... | the same, for those that are answered |
| REPLY | task id, of one that is answered without a code | its ``wire.Reply`` |
| ROUND | a ``wire.JobEvent`` | |
| OBJECT | a ``wire.JobEvent``: a site, and by which code its reply isn't taken | |
| MODEL | a ``wire.RecordDict`` | (the process ends) |
| FAILED | one line | (the process ends) |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

START, ANSWER = b"S", b"A"
NODES, PEEK, BLOB, PUSH, WAIT, PULL = b"N", b"K", b"B", b"P", b"W", b"L"
MORE, REPLY = b"Q", b"Y"
ROUND, OBJECT, MODEL, FAILED = b"R", b"O", b"M", b"F"

PAGE_BYTES = 16 * 2**20
"""Most bytes of a frame's parts, unless one alone is larger."""
ROOM_BYTES = 64
"""Of a frame, for what stands before a reply."""
MAX_PUSH_BYTES = 2**29
"""Most bytes of tasks that are sent out together."""

APP_FOLDER = "/recipe/app"
BLOBS_FOLDER = "/blobs"


def pages(parts: Sequence[bytes], page_bytes: int) -> Iterator[list[bytes]]:
    """Yield sites and tasks in turn, as PUSH has them, in lists of so many bytes; one at least."""
    page: list[bytes] = []
    size = 0
    for site, task in zip(parts[0::2], parts[1::2], strict=True):
        if page and size + len(site) + len(task) > page_bytes:
            yield page
            page, size = [], 0
        page += [site, task]
        size += len(site) + len(task)
    yield page
