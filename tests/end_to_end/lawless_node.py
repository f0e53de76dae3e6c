"""A node that lets out whatever a recipe says: a hospital that is hostile, or whose gate is broken.

All else of it is true: its key, its place on the roster, its receipts.
"""

from __future__ import annotations

from node.cli import main
from node.gate import before_egress

if __name__ == "__main__":
    before_egress.BEFORE_EGRESS = ()
    main()
