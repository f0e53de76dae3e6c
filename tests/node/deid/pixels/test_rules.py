"""Where devices are known to write."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from node.deid.pixels import rules
from node.deid.pixels.cleaning import clean_pixels
from node.deid.pixels.image import Box, PixelSettings, Region
from node.deid.reading import Unsafe
from tests.node.deid.pixels.making import NOBODY, after, native

RULES = PixelSettings(mode="rules")
PICTURE = native(np.full((1, 480, 640), 90, np.uint8))
ULTRASOUND = replace(
    PICTURE, modality="US", regions=(Region(100, 60, 539, 399), Region(50, 410, 600, 459))
)


def test_outside_of_ultrasound_regions_is_where_names_are() -> None:
    assert rules.areas(ULTRASOUND) == [
        Box(0, 0, 640, 60),
        Box(0, 60, 50, 460),
        Box(601, 60, 640, 460),
        Box(0, 460, 640, 480),
    ]


def test_a_makers_banner_is_known_by_model_and_size() -> None:
    device = replace(PICTURE, modality="US", manufacturer="Philips Medical Systems", model="iU22")
    assert rules.areas(device) == [Box(0, 0, 640, 47)]
    assert rules.areas(replace(device, rows=481)) == []
    assert rules.areas(replace(device, model="EPIQ")) == []


def test_by_rules_alone_the_areas_go_and_the_rest_stays() -> None:
    cleaned = clean_pixels(ULTRASOUND, NOBODY, RULES)
    [new] = after(ULTRASOUND, cleaned)
    assert (new[60:460, 50:601] == 90).all()
    # Black is the lowest value there is, which is all there is here.
    assert cleaned.account.by_rule == 4 and cleaned.boxes[0] == tuple(rules.areas(ULTRASOUND))


def test_by_rules_alone_declared_text_at_an_unknown_place_is_unsafe() -> None:
    with pytest.raises(Unsafe, match="burned-in-annotation"):
        clean_pixels(replace(PICTURE, burned_in="YES"), NOBODY, RULES)


def test_without_a_rule_and_without_declared_text_nothing_changes() -> None:
    assert not clean_pixels(PICTURE, NOBODY, RULES).changed


@pytest.mark.parametrize(
    "sop_class",
    [
        "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.481.2",
    ],
)
def test_computed_values_hold_no_text(sop_class: str) -> None:
    assert not rules.can_hold_text(replace(PICTURE, sop_class=sop_class))


def test_of_a_slide_only_the_tissue_holds_no_text() -> None:
    slide = replace(PICTURE, sop_class="1.2.840.10008.5.1.4.1.1.77.1.6")
    assert rules.can_hold_text(replace(slide, image_type=("ORIGINAL", "PRIMARY", "LABEL")))
    assert not rules.can_hold_text(replace(slide, image_type=("ORIGINAL", "PRIMARY", "VOLUME")))
