"""Photographs (JPEG, PNG, TIFF) and free-text reports without what identifies."""

from node.deid.photographs.photograph import Photograph, clean_photograph, recognise
from node.deid.photographs.report import Draft, clean_report

__all__ = ["Draft", "Photograph", "clean_photograph", "clean_report", "recognise"]
