"""SciPy's special functions, loaded with the first that is used: daemons and help do without."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("scipy.special"), name)
