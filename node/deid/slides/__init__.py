"""Whole-slide images: recognised, and cleaned of label, macro and text."""

from node.deid.slides.cleaning import Matcher, clean_slide
from node.deid.slides.dicom import drops_instance
from node.deid.slides.facts import Format, SlideFacts
from node.deid.slides.recognition import belongs_to_slide, members, recognise

__all__ = [
    "Format",
    "Matcher",
    "SlideFacts",
    "belongs_to_slide",
    "clean_slide",
    "drops_instance",
    "members",
    "recognise",
]
