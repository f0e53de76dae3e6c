"""How many examples, kills or files a test takes: a few in ``make test``, many in the nightly."""

from __future__ import annotations

from hypothesis import settings


def examples(few: int, many: int) -> int:
    """Return ``few`` under Hypothesis's profile ``ci``, as in ``make test``, else ``many``."""
    return few if settings.get_current_profile_name() == "ci" else many
