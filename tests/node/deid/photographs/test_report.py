"""Free-text reports: what identifies is gone, and what was moved may stay."""

from __future__ import annotations

import pytest

from node.deid.identifiers import Known, Matcher, Rules
from node.deid.photographs import clean_report
from node.deid.reading import Unsafe

KNOWN = Known(persons=frozenset({"Foxglove^Ada"}), numbers=frozenset({"AB-47114"}))
TEXT = (
    "Ada Foxglove (AB 47114), born 1.2.1950, seen on 12.03.2021. Melanoma of 2 mm, "
    "tel. 030 1234567, image 1.2.826.0.1.3680043.8.498.12345.\n"
)


def test_a_report_keeps_its_clinical_words_and_its_moved_date() -> None:
    draft = clean_report(TEXT, Matcher(KNOWN, Rules(days=400)))
    assert "Melanoma of 2 mm" in draft.text and "06.02.2020" in draft.text
    for known in ("Foxglove", "Ada", "47114", "030 1234567", "2021"):
        assert known not in draft.text
    assert draft.state == "draft"


def test_a_report_without_text_is_refused() -> None:
    with pytest.raises(Unsafe, match="empty"):
        clean_report(" \n", Matcher(KNOWN))
