"""The coordinator's SuperLink: a stock one, started here or elsewhere, and its public front.

One that is started here listens on loopback alone, starts no process of its own (``--isolation
process``), installs nothing, and keeps its state in an SQLite database in the home.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from contract.errors import StorageError, Unavailable, WardgateError
from contract.work import Scalar
from coordinator.config import SuperLinkSettings
from foundation import lifeline
from foundation.files import private_folder, read_bounded, write_new
from foundation.listening import is_loopback, listen
from foundation.superlink import OFFLINE, check_version
from foundation.transport import Peer, TransportIdentity

if TYPE_CHECKING:
    from coordinator.work.superlink.flower import HeldRun, Seat
    from coordinator.work.superlink.front import Front, SiteKeys

log = logging.getLogger("wardgate.coordinator")

LOOK_SECONDS = 0.5
MAX_SECRET_BYTES = 4096
PROGRAM = "flower-superlink"


class SuperLink:
    """A SuperLink, its front and the SuperExec's seat at it."""

    def __init__(self, settings: SuperLinkSettings, folder: Path, keep_free_bytes: int = 0) -> None:
        """``keep_free_bytes``: of the disk of ``folder``, which its database doesn't get."""
        self._settings = settings
        self._keep_free_bytes = keep_free_bytes
        self._folder = private_folder(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._seat: Seat | None = None
        self._front: Front | None = None
        self.keys: SiteKeys | None = None
        self.address = settings.runtime

    # ---- life ----------------------------------------------------------------------------------

    def start(self, identity: TransportIdentity, check: Callable[[Peer], None]) -> int:
        """Bring SuperLink and front up; return the front's port."""
        check_version()
        from coordinator.work.superlink.front import Front, SiteKeys

        if self.address:
            host = self.address.rpartition(":")[0]
            if not is_loopback(host.strip("[]")):
                raise Unavailable(
                    "[superlink] runtime must be on this machine: whoever reaches it can start "
                    "runs."
                )
            if not self._settings.secret_file:
                raise Unavailable("[superlink] runtime needs secret_file.")
            secret = Path(self._settings.secret_file)
            if not secret.is_file() or secret.stat().st_mode & 0o077:
                raise Unavailable(f"{secret} must be a file that its owner alone can read.")
        else:
            with listen("127.0.0.1", 0) as probe:
                self.address = f"127.0.0.1:{probe.getsockname()[1]}"
            threading.Thread(target=self._keep_up, name="superlink", daemon=True).start()
        self.keys = SiteKeys()
        self._front = Front(self.address, check, self.keys, self.has_room)
        return self._front.serve(self._settings.host, self._settings.port, identity)

    def has_room(self, size: int) -> bool:
        """Say whether the database may take so many bytes more."""
        return shutil.disk_usage(self._folder).free - size >= self._keep_free_bytes

    def stop(self) -> None:
        """End front and SuperLink."""
        self._stopped.set()
        if self._front is not None:
            self._front.stop()
        if (process := self._process) is not None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()

    @property
    def pid(self) -> int | None:
        """The SuperLink's process, if it was started here and runs."""
        return None if self._process is None else self._process.pid

    @property
    def secret_file(self) -> Path:
        """The SuperExec's secret, mode 0600; made when there is none."""
        if self._settings.secret_file:
            return Path(self._settings.secret_file)
        path = self._folder / "superexec.secret"
        if not path.exists():
            write_new(path, secrets.token_bytes(32), 0o600)
        return path

    def _command(self) -> list[str]:
        host, _, port = self.address.rpartition(":")
        program = Path(sys.executable).parent / PROGRAM
        return lifeline.tied(
            [
                str(program),
                "--insecure",  # on loopback; the front speaks TLS
                "--host",
                host,
                "--port",
                port,
                "--isolation",
                "process",
                "--superexec-auth-secret-file",
                str(self.secret_file),
                "--disable-runtime-dependency-installation",
                "--database",
                str(self._folder / "superlink.db"),
            ]
        )

    def _keep_up(self) -> None:
        """Start the SuperLink, and again when it ends. A thread of its own, which its life is
        tied to."""
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._folder),
            "FLWR_HOME": str(private_folder(self._folder / "flwr")),
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            **OFFLINE,
        }
        path = self._folder / "superlink.log"
        while not self._stopped.is_set():
            try:
                with path.open("wb") as out:
                    path.chmod(0o600)
                    self._process = subprocess.Popen(
                        self._command(),
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                        env=environment,
                        cwd=self._folder,
                    )
                self._process.wait()
            except (OSError, WardgateError) as error:
                log.error("the SuperLink can't be started: %s", type(error).__name__)
            if not self._stopped.wait(LOOK_SECONDS):
                log.warning("the SuperLink ended; it is started again")

    # ---- runs ----------------------------------------------------------------------------------

    def seat(self) -> Seat:
        """Return the SuperExec's seat; ``Unavailable`` while the SuperLink isn't up."""
        from coordinator.work.superlink.flower import Seat, is_up

        with self._lock:
            if self._seat is None:
                if not is_up(self.address):
                    raise Unavailable("The SuperLink is not up.")
                try:
                    secret = read_bounded(self.secret_file, MAX_SECRET_BYTES)
                except OSError:
                    raise StorageError("The SuperExec's secret can't be read.") from None
                self._seat = Seat(self.address, secret)
            return self._seat

    def open_run(self, bundle: bytes, parameters: Mapping[str, Scalar]) -> HeldRun:
        """Start a run, take its task and begin with it.

        A task of any other run is ended: nothing runs here but signed jobs.
        """
        from coordinator.work.superlink.flower import RunOver

        seat = self.seat()
        with self._lock:
            run_id = seat.start_run(bundle, parameters)
            token = ""
            while (got := seat.take()) is not None:
                other, found = got
                if other == run_id:
                    token = found
                    break
                log.warning("a run of the SuperLink that is no signed job was ended")
                stranger = seat.run(other, found)
                with suppress(WardgateError, RunOver):
                    stranger.begin()
                    stranger.finish("This SuperLink runs signed jobs only.")
                stranger.close()
        if not token:
            raise Unavailable("Another SuperExec took a run of this SuperLink; there may be none.")
        run = seat.run(run_id, token)
        run.begin()
        return run
