"""The bench of secure sums draws what they cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DRAW = """
import sys
from pathlib import Path
from bench.secure_aggregation import draw
draw(Path(sys.argv[1]), (100, 1000), (5, 10))
"""


def test_cost_curves_by_sites_and_by_length_are_drawn_to_a_picture(tmp_path: Path) -> None:
    from PIL import Image

    target = tmp_path / "costs.png"
    # In a process of its own: the bench takes all threads but one from numpy.
    subprocess.run([sys.executable, "-c", DRAW, str(target)], cwd=ROOT, check=True)
    with Image.open(target) as picture:
        values = {value for _, value in picture.convert("RGB").getcolors(2**20) or ()}
    # Curves of both colours that Matplotlib begins with: the client's and the server's.
    assert {(31, 119, 180), (255, 127, 14)} <= values
