"""The documented default files in ``configs/``, wherever Wardgate is installed."""

from __future__ import annotations

from pathlib import Path

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def default_text(name: str) -> str:
    """Return the text of ``configs/NAME``."""
    return (CONFIGS / name).read_text(encoding="utf-8")
