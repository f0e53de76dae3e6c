"""What the daemon and a ServerApp's process say to each other, over one Unix socket.

The process asks, the daemon answers; one question at a time. Tensors go to the daemon as memory
files beside the question (``BLOB``) and come back by name: the process sees the job's ``blobs``
folder, read-only, as ``/blobs``.

| question | message | answer |
|---|---|---|
| NODES | | the sites that are online, in roster order |
| PEEK | | the same, but not kept in the journal |
| BLOB | a ``BlobReference``; with it, a descriptor of its bytes | |
| PUSH | site, ``wire.Task``, site, ``wire.Task``, ... | |
| WAIT | seconds or empty, task id, ... | task id, code, ``wire.Reply``, ... for each |
| PULL | task id, ... | the same, for those that are answered |
| ROUND | a ``wire.JobEvent`` | |
| MODEL | a ``wire.RecordDict`` | (the process ends) |
| FAILED | one line | (the process ends) |
"""

from __future__ import annotations

START, ANSWER = b"S", b"A"
NODES, PEEK, BLOB, PUSH, WAIT, PULL = b"N", b"K", b"B", b"P", b"W", b"L"
ROUND, MODEL, FAILED = b"R", b"M", b"F"

APP_FOLDER = "/recipe/app"
BLOBS_FOLDER = "/blobs"
