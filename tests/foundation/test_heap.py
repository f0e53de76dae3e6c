"""What a process frees, it gives back."""

import subprocess
import sys

KEPT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from foundation.heap import give_back

if sys.argv[1] == "give back":
    assert give_back()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def fill(_):
    # A small block after each large one keeps the heap from shrinking.
    return [(bytearray(2**20), bytearray(2000)) for _ in range(60)]

before = resident()
with ThreadPoolExecutor(4) as pool:
    kept = [[small for _, small in one] for one in pool.map(fill, range(8))]
print(resident() - before)
"""


def kept(how: str) -> int:
    line = [sys.executable, "-c", KEPT, how]
    return int(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


def test_freed_blocks_between_used_ones_are_given_back() -> None:
    assert kept("give back") < 2**25
