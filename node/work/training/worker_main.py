"""The worker's program, inside the sandbox: one recipe, loaded once, for all messages of a job.

Order matters: privileges go first, then our own modules and Flower are imported, then the
recipe's folder joins the end of ``sys.path``, where it can shadow nothing, and is imported.

What goes back is the recipe's answer or a code and a place in the recipe; never an exception's
text, nor its type, which may be the recipe's own.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from foundation import confined
from foundation.frames import Broken, FrameError, Pipe

START, TASK, STATE, READY, REPLY, FAILED = b"B", b"T", b"S", b"K", b"R", b"F"
DRAFT = b"D"
"""A file that stays in the hospital; any number of them before a reply."""
DRAFTS = Path("/drafts")
APP, PACKAGES = "/recipe/app", "/recipe/site-packages"
NO_LIMIT = 2**62


def main(incoming: int, outgoing: int) -> None:
    """Serve messages until the other side closes the pipe."""
    confined.enter()
    pipe = Pipe(incoming, outgoing)
    start = json.loads(pipe.receive(0).message)

    from contract import wire_pb2 as wire
    from contract.errors import DocumentError
    from foundation import loaders
    from foundation.seeding import seed_everything, seed_of
    from node.work.training.flower import App

    loaders.install()
    # Seeds go by the site's place in the job, so that they are those of any consortium.
    place = start["node_config"].get("partition-id", start["node_id"] - 1) + 1
    seed_everything(start["seed"] + place)
    sys.path += [APP, PACKAGES]
    app: App | None = None
    failure = b""
    kept = b""  # the state after the last message that was answered
    try:
        app = App(
            start["client"],
            run_id=start["run_id"],
            node_id=start["node_id"],
            run_config=start["run_config"],
            node_config=start["node_config"],
        )
    except BaseException as error:
        failure = _explain(error)
    pipe.send(READY)
    while True:
        frame = pipe.receive(NO_LIMIT)
        if frame.kind == STATE:
            kept = frame.body
            if app is not None:
                app.state = kept
            continue
        if app is None:
            pipe.send(FAILED, failure)
            continue
        try:
            task = wire.Task.FromString(frame.message)
            # Each task has a seed of its own, so that one that is done again is done alike.
            seed_everything(seed_of(start["seed"], place, task.task))
            reply = app.handle(task, frame.body)
            kept = app.state
        except BaseException as error:
            app.state = kept
            for _ in _drafts(DRAFTS):
                pass
            unfit = wire.TaskFailed(code="malformed").SerializeToString()
            pipe.send(FAILED, unfit if isinstance(error, DocumentError) else _explain(error))
            continue
        del frame
        for name, draft in _drafts(DRAFTS):
            pipe.send(DRAFT, name.encode(errors="replace"), [draft])
        pipe.send(REPLY, reply.message.SerializeToString(), reply.pieces)
        pipe.send(STATE, b"", [kept])
        del reply


def _drafts(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files that the recipe left, by name, and delete each; nothing but files counts."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if not stat.S_ISREG(path.lstat().st_mode):
            continue
        data = path.read_bytes()
        with suppress(OSError):
            path.unlink()
        yield path.name, data


def _explain(error: BaseException) -> bytes:
    """Return a failure that names a line of the recipe; the traceback goes to the local log."""
    from contract import wire_pb2 as wire

    traceback.print_exception(error)
    location = ""
    if isinstance(error, SyntaxError):
        location = _place(error.filename or "", error.lineno or 0)
    frame: TracebackType | None = error.__traceback__
    while frame is not None:
        location = _place(frame.tb_frame.f_code.co_filename, frame.tb_lineno) or location
        frame = frame.tb_next
    return wire.TaskFailed(code="exception", location=location).SerializeToString()


def _place(filename: str, line: int) -> str:
    inside = filename.startswith(APP + "/")
    return f"{os.path.relpath(filename, APP)}:{line}" if inside else ""


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]))
    except FrameError as closed:
        if closed.why is not Broken.CLOSED:
            raise
