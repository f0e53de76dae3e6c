"""An honest program inside the sandbox: what it needs works, what it may not do says so."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import mmap
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.queues import Queue
from typing import Any

from foundation import confined


def refused(action: Callable[[], object], number: int) -> None:
    """Assert that something fails with an error."""
    try:
        action()
    except OSError as error:
        assert error.errno == number, error
    else:
        raise AssertionError("it was allowed")


def child(numbers: Any, queue: Queue[str]) -> None:
    """Write to what was shared."""
    numbers[0] = 7
    queue.put("said")


def main() -> None:
    """Try everything."""
    confined.enter()
    libc = ctypes.CDLL(None, use_errno=True)
    refused(socket.socket, errno.EPERM)
    refused(lambda: os.mkfifo("/tmp/fifo"), errno.EPERM)
    refused(lambda: os.chown("/tmp", 1, 1), errno.EPERM)
    refused(lambda: os.memfd_create("x"), errno.EPERM)
    refused(lambda: mmap.mmap(-1, 4096), errno.ENOSYS)
    refused(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM), errno.ENOSYS)
    assert libc.syscall(9999) == -1
    assert ctypes.get_errno() == errno.ENOSYS
    assert libc.prctl(4, 1, 0, 0, 0) == -1  # PR_SET_DUMPABLE

    one, other = socket.socketpair()
    one.sendall(b"x")
    assert other.recv(1) == b"x"
    numbers = multiprocessing.Array("i", 3)
    queue: Queue[str] = multiprocessing.Queue()
    process = multiprocessing.Process(target=child, args=(numbers, queue))
    process.start()
    assert queue.get() == "said"
    process.join()
    assert numbers[0] == 7
    thread = threading.Thread(target=asyncio.run, args=(asyncio.sleep(0),))
    thread.start()
    thread.join()
    again = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, check=True)
    assert again.stdout == b"42\n"
    print("all as it should be")


if __name__ == "__main__":
    main()
