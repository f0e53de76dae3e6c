"""The reference of de-identification profiles: every option and every reason, as it is."""

from __future__ import annotations

from typing import get_args

from node.deid.profile import BUILT_IN, Options
from node.deid.reading import Reason
from tests.docs.reading import ROOT, table_below

TEXT = (ROOT / "docs" / "reference" / "profiles.md").read_text()


def test_every_option_of_a_profile_is_documented() -> None:
    rows = table_below(TEXT, "## Options")
    assert [row[0].strip("`") for row in rows] == list(Options.model_fields)


def test_every_built_in_profile_is_documented() -> None:
    rows = table_below(TEXT, "# De-identification profiles")
    assert {row[0].strip("`") for row in rows} == set(BUILT_IN)


def test_every_reason_of_quarantine_is_documented() -> None:
    rows = table_below(TEXT, "## What is put in quarantine")
    documented = {reason for row in rows for reason in row[0].replace("`", "").split(", ")}
    assert documented == set(get_args(Reason))
