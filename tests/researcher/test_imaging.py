"""Intensities over sites: one question, one histogram, and constants to normalise by."""

from __future__ import annotations

import numpy as np
import pytest

from contract.errors import DocumentError
from tests.contract.world import World
from tests.researcher.local import LocalConsortium, split

DERIVE = {"intensity": "all", "modality": "CT", "minimum": 0, "maximum": 4, "bins": 4}
PROJECT = World().project(variables=[{"name": "ct", "kind": "number", "derive": DERIVE}])
RNG = np.random.default_rng(2)
PIXELS = RNG.uniform(0, 4, (50, 200)) ** 1.2 % 4
TABLE = {
    "ct.mean": PIXELS.mean(axis=1),
    "ct.sd": PIXELS.std(axis=1),
    **{f"ct.b{i:02}": (np.floor(PIXELS) == i).mean(axis=1) for i in range(4)},
}


def test_the_histogram_and_the_constants_are_those_of_all_pixels() -> None:
    consortium = LocalConsortium(PROJECT.variables, split(TABLE, 3))
    found = consortium.study().intensities("ct")
    assert len(consortium.asked) == 1
    counts = np.histogram(PIXELS, bins=4, range=(0, 4))[0] / PIXELS.size
    assert found.result.shares == pytest.approx(counts.tolist())
    assert found.result.edges == (0, 1, 2, 3, 4)
    assert found.result.normalisation.mean == pytest.approx(PIXELS.mean())
    assert found.result.normalisation.standard_deviation == pytest.approx(PIXELS.std())
    assert found.figure is not None
    assert max(map(len, str(found).splitlines())) <= 80


def test_what_the_dictionary_has_no_intensities_of_is_an_error() -> None:
    with pytest.raises(DocumentError, match="no intensities called mr"):
        LocalConsortium(PROJECT.variables, split(TABLE, 3)).study().intensities("mr")
