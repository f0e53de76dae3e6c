"""DICOM from bytes, strictly: a file that ends too early is refused, never read in part.

pydicom reads what is there of a cut file and warns. Wardgate must not keep half an image, so the
reads are watched, and each element's length is compared with what came.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Buffer
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
