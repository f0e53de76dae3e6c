"""A crosstab is printed as a table of rows by columns, and told as a long one."""

from __future__ import annotations

import numpy as np
import pytest

from contract.statistics.summaries import Counts
from researcher.analyses.two_way import page
from researcher.study import Study
from tests.researcher.test_related import category, number, of_counts, study

# R's HairEyeColor (Snee 1974), by sex, eye and hair.
COUNTS = [32, 53, 10, 3, 11, 50, 10, 30, 10, 25, 7, 5, 3, 15, 7, 8, 36, 66, 16, 4, 9, 34, 7, 64,
          5, 29, 7, 5, 2, 14, 7, 8]  # fmt: skip
EYE = category("eye", "brown", "blue", "hazel", "green")
HAIR = category("hair", "black", "brown", "red", "blond")
SEX = category("sex", "man", "woman")


@pytest.fixture(scope="module")
def colours() -> Study:
    return of_counts((EYE, HAIR, SEX), np.moveaxis(np.reshape(COUNTS, (2, 4, 4)), 0, 2))


def test_counts_stand_with_the_shares_of_their_row(colours: Study) -> None:
    found = colours.crosstab("eye", "hair")
    text = str(found)
    line = next(line for line in text.splitlines() if "hazel" in line)
    assert line.split("│")[2:6] == [
        "  15 (16.1%) ", "  54 (58.1%) ", " 14 (15.1%) ", "  10 (10.8%) "
    ]  # fmt: skip
    assert "592 (100%)" in text
    assert found.tidy()[0] == {"eye": "brown", "hair": "black", "count": 68}
    assert len(found.tidy()) == 16


@pytest.mark.parametrize("stratum", ["of a third", "of groups"])
def test_each_stratum_is_a_block(colours: Study, stratum: str) -> None:
    if stratum == "of a third":
        found = colours.crosstab("eye", "hair", "sex")
    else:
        found = colours.crosstab("eye", "hair", by="sex")
    lines = str(found).splitlines()
    man, woman = (next(i for i, one in enumerate(lines) if f"sex = {s}" in one) for s in SEX.levels)
    assert "98 (100%)" in lines[man + 1]
    assert "122 (100%)" in lines[woman + 1]
    assert not lines[woman - 1].strip()
    assert max(map(len, lines)) <= 80
    assert len(found.tidy()) == 32


def test_a_share_stands_under_its_count_where_a_line_is_too_short() -> None:
    many = category("x", *(f"level {i}" for i in range(10)))
    counts = np.arange(20).reshape(2, 10) * 100
    lines = str(of_counts((SEX, many), counts).crosstab("sex", "x")).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(" woman"))
    assert lines[at].split()[1:] == [*map(str, counts[1]), "14500"]
    assert lines[at + 1].split() == [*(f"{c / 14500:.1%}" for c in counts[1]), "100%"]
    assert max(map(len, lines)) <= 80


def test_bins_of_nobody_are_left_out_and_what_no_page_holds_stays_long() -> None:
    age = number("age", 0, 80, 80)
    columns = {"age": np.array([3.5, 3.5, 40.5]), "sex": np.array([0, 1, 1])}
    printed = study([age, SEX], columns).crosstab("age", "sex").in_print
    assert printed is not None
    assert [row[0] for row in printed.rows] == ["3 to 4", "40 to 41", "total"]
    wide = {"age": np.arange(80) + 0.5, "sex": np.arange(80) % 2}
    assert study([age, SEX], wide).crosstab("sex", "age").in_print is None


def test_what_noise_left_below_zero_has_no_share() -> None:
    printed = page({"all": Counts(counts=(-3, 10, 5, 5), missing=0)}, (SEX, SEX), None)
    assert printed is not None
    assert printed.rows[0] == ("man", "-3  (0.0%)", "10 (100.0%)", " 7 (100%)")
