"""The ServerApp's process, inside the sandbox: the researcher's code, and a Grid to the daemon.

The app can print, which becomes the job's log, and talk to its sites. It has no network, and what
it writes to a disk is in memory and gone at the end. The job yields the arrays that it leaves in
its context's state as ``arrays``, or else the model that its strategy arrives at, or else, when it
starts none, what it sent to its sites last. An app that only asks queries need leave none.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation import confined
from foundation.frames import FrameError, Socket

if TYPE_CHECKING:
    from contract.records import Arrays, Records
    from coordinator.work.training.flower import Observed

LOOP = "a loop of its own"
MAX_SAID = 200
"""Characters of an exception's text: the app's own log, which has it all, is told to the same."""
MAX_LISTED = 100
"""So many numbers of a metric that is a list are shown of a round."""


def main(descriptor: int) -> None:
    """Run the app to its end, and say how it ended."""
    confined.enter()
    daemon = Socket(socket.socket(fileno=descriptor))
    start = json.loads(daemon.receive()[0].message)
    try:
        _run(daemon, start)
    except FrameError:
        raise
    except BaseException as error:
        traceback.print_exception(error)
        from coordinator.work.training import protocol

        daemon.send(protocol.FAILED, _reason(error, start["job"]).encode())


def _run(daemon: Socket, start: dict[str, Any]) -> None:
    import numpy as np

    from contract import wire_pb2 as wire
    from contract.records import NOTHING, Arrays, Config, encode_entry
    from coordinator.work.training import flower, older_apps, protocol
    from coordinator.work.training.grid import WardgateGrid
    from foundation import loaders
    from foundation.flower import from_flower
    from foundation.seeding import seed_everything

    loaders.install()
    summing = None
    if start["summing"]:  # else it isn't loaded: it takes a third of the start
        from coordinator.work.training.secure import Summing

        summing = Summing.told(start["summing"])
    observed = flower.Observed(_start_from(start))
    run_id: int = start["run_id"]
    grid = WardgateGrid(
        daemon,
        job=start["job"],
        run=flower.identify(run_id),
        sites=start["sites"],
        consortium=start["consortium"],
        minimum_sites=start["minimum_sites"],
        observed=observed,
        summing=summing,
    )

    def watch(server_round: int, what: str, metrics: Mapping[str, Any]) -> None:
        event = wire.JobEvent(kind="round", round=server_round, text=what)
        apart, grid.of_some_sites = grid.of_some_sites, {}
        for key, value in (apart | dict(metrics)).items():
            listed = isinstance(value, list)
            for index, number in enumerate(value[:MAX_LISTED] if listed else [value]):
                if isinstance(number, int | float) and not isinstance(number, bool):
                    name = f"{key}[{index}]" if listed else key
                    event.metrics.append(encode_entry(name, number))
        grid.ask(protocol.ROUND, event.SerializeToString())

    flower.observe(observed, watch)
    if start["cross_evaluation"]:
        observed.instead = flower.cross_evaluation(grid.name_of, start["minimum_sites"])
    older_apps.observe(observed, watch, grid)
    seed_everything(start["seed"])
    sys.path.append(protocol.APP_FOLDER)
    app = flower.load(start["server"])
    state = flower.run_app(app, grid, run_id, start["run_config"])
    if observed.start_from is not None and not observed.started_from:
        daemon.send(
            protocol.FAILED, b"The ServerApp did not begin with the model that it was given."
        )
        return
    if observed.instead is not None:
        daemon.send(protocol.FAILED, b"The recipe has no strategy that evaluates across sites.")
        return
    said = {"strategy": Config(observed.strategy)} if observed.strategy else {}
    model = _model(from_flower(state), observed)
    if model is None and (model := _arrays_in(grid.sent_last)) is not None:
        said = {"strategy": Config({"name": LOOP})}
        print("The app left no model. What it sent to its sites last is taken for it.", flush=True)
    if model is None and not grid.asked_queries_only:
        daemon.send(
            protocol.FAILED,
            b"The ServerApp ended without a model: it started no strategy, left no arrays in its "
            b"context's state and sent the same ones to no sites.",
        )
        return
    grid.deliver_model({"arrays": model or Arrays({NOTHING: np.zeros(0, np.uint8)}), **said})


def _model(state: Records, observed: Observed) -> Arrays | None:
    """Return what the app leaves as ``arrays``, or what its strategy came to, or any arrays left.

    What it leaves under that name is its own choice, such as the best of its models.
    """
    from contract.records import Arrays

    named = state.get("arrays")
    return named if isinstance(named, Arrays) else observed.model or _arrays_in(state)


def _arrays_in(held: Records) -> Arrays | None:
    """Return the arrays called ``arrays``, or else the first."""
    from contract.records import Arrays

    found = {name: record for name, record in held.items() if isinstance(record, Arrays)}
    return found.get("arrays") or next(iter(found.values()), None)


def _start_from(start: Mapping[str, Any]) -> Arrays | None:
    """Return the arrays of the model that the job begins with, if it names one."""
    from contract import wire_pb2 as wire
    from contract.records import Arrays
    from coordinator.work.training import protocol
    from foundation import tensors

    if not start["start_from"]:
        return None
    message = wire.RecordDict.FromString(base64.b64decode(start["start_from"]))
    digest = message.tensors.digest
    blob = (Path(protocol.BLOBS_FOLDER) / digest).read_bytes() if digest else b""
    records = tensors.read(message, blob).values()
    return next((record for record in records if isinstance(record, Arrays)), Arrays())


def _reason(error: BaseException, job: str) -> str:
    """Return one line about a failure; its details went to the log."""
    from contract.errors import WardgateError
    from coordinator.work.training.protocol import APP_FOLDER

    if isinstance(error, WardgateError):
        return str(error)
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(APP_FOLDER + "/"):
            place = f" at {frame.filename.removeprefix(APP_FOLDER + '/')}:{frame.lineno}"
    log = f"its log says more: wardgate job {job} --log."
    if isinstance(error, ImportError) and error.name:
        package, _, inside = error.name.partition(".")
        missing = isinstance(error, ModuleNotFoundError)
        whose = "the coordinator"
        if inside or not missing:
            with suppress(PackageNotFoundError):
                whose = f"{package} {version(package)} here"
        if missing:
            return f"The ServerApp imports {error.name}{place}, which {whose} doesn't have."
        return f"The ServerApp wants of {error.name}{place} what {whose} doesn't have; {log}"
    said, *_ = str(error).strip().splitlines() or [""]
    what = f"{type(error).__name__}{place}" + (f" ({said[:MAX_SAID].strip()})" if said else "")
    return f"The ServerApp failed with {what}; {log}"


if __name__ == "__main__":
    main(int(sys.argv[1]))
