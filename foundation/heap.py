"""Memory that is freed goes back to the system.

By default glibc's allocator keeps what is freed for later, in a heap for each thread, and takes
larger and larger blocks into those heaps. A daemon through whose threads megabytes pass, hundreds
at a time, then holds several times what it ever needed at once.
"""

from __future__ import annotations

import ctypes
import sys

MMAP_THRESHOLD_BYTES = 256 * 1024
HEAPS = 2
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Of ``malloc.h`` (glibc, mallopt(3))."""


def give_back() -> bool:
    """Map large blocks one by one, from now on; say whether the allocator took the setting."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    settings = ((_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES), (_M_ARENA_MAX, HEAPS))
    taken = [mallopt(option, value) for option, value in settings]
    return all(taken)
