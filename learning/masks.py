"""Masks as files: read from pictures, series and DICOM segmentations; written as drafts.

Written are PNG label maps and binary DICOM segmentations (PS3.3 A.51, C.8.20.2); NIfTI is
``learning.nifti``. The same mask gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning import pixels
from learning.pixels import Volume
from learning.releases import Asset

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
Labels = NDArray[np.uint8]


def of_picture(asset: Asset, structures: int) -> Labels:
    """Return a picture's mask: 0 is none, n the n-th structure.

    With one structure, whatever is more than half of the brightest is it; with several, values are
    their numbers.
    """
    if asset.sop_class_uid == SEGMENTATION:
        labels: Labels = _segments([asset], None, structures)[0]
        return labels
    return _labels(pixels.image(asset), structures)


def of_volume(assets: Sequence[Asset], image: Volume, structures: int) -> Labels:
    """Return the mask of a volume, voxel by voxel: a segmentation, or a volume like the image."""
    if len(assets) == 1 and assets[0].sop_class_uid == SEGMENTATION:
        return _segments(assets, image, structures)
    mask = pixels.volume(assets)
    if mask.values.shape != image.values.shape:
        raise ValueError("a mask has another size than its image")
    if not np.allclose(mask.directions, image.directions, atol=0.1):
        raise ValueError("a mask has its axes in other directions than its image")
    return _labels(mask.values, structures)


def _labels(values: NDArray[Any], structures: int) -> Labels:
    if structures == 1:
        return (values > values.max() / 2).astype(np.uint8) if values.max() > 0 else _none(values)
    found = np.rint(values)
    if found.min() < 0 or found.max() > structures:
        raise ValueError("structures: a mask has values beyond them")
    labels: Labels = found.astype(np.uint8)
    return labels


def _none(values: NDArray[Any]) -> Labels:
    return np.zeros(values.shape, np.uint8)


def _segments(assets: Sequence[Asset], image: Volume | None, structures: int) -> Labels:
    """Return a segmentation's segments, each frame in the slice of the image where it lies."""
    import pydicom
    from pydicom.pixels import pixel_array

    dataset = pydicom.dcmread(assets[0].path)
    found = np.asarray(pixel_array(dataset))
    frames = found.reshape(-1, *found.shape[-2:])
    labels = np.zeros((1, *frames.shape[1:]) if image is None else image.values.shape, np.uint8)
    if labels.shape[1:] != frames.shape[1:]:
        raise ValueError("a segmentation has another size than its image")
    for frame, groups in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        if not 1 <= number <= structures:
            raise ValueError("structures: a segmentation has segments beyond them")
        at = 0
        if image is not None:
            position = groups.PlanePositionSequence[0].ImagePositionPatient
            away = np.array([float(v) for v in position]) - np.array(image.origin_mm)
            at = round(float(image.directions[0] @ away) / image.spacing_mm[0])
        if not 0 <= at < len(labels):
            raise ValueError("a segmentation lies outside its image")
        labels[at][frame > 0] = number
    return labels


# ---- written -------------------------------------------------------------------------------------


def png(labels: Labels) -> bytes:
    """Return a picture's mask as a grey PNG whose values are the structures' numbers."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG")
    return buffer.getvalue()


def segmentation(labels: Labels, assets: Sequence[Asset], structures: Sequence[str]) -> bytes:
    """Return the mask of a picture (one slice) or a series as a binary DICOM segmentation.

    ``labels`` are (slices, rows, columns), in the order of ``pixels.volume``. Slices without a
    structure have no frame.
    """
    import pydicom
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.pixels import pack_bits
    from pydicom.uid import ExplicitVRLittleEndian

    sources = _in_order([pydicom.dcmread(asset.path, stop_before_pixels=True) for asset in assets])
    first = sources[0]
    mark = hashlib.sha256(labels.tobytes())
    for asset in assets:
        mark.update(asset.digest.encode())
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SEGMENTATION
    meta.MediaStorageSOPInstanceUID = f"2.25.{int.from_bytes(mark.digest()[:15], 'big')}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for name in _KEPT:
        made[name] = first[name] if name in first else pydicom.DataElement(name, _vr(name), "")
    made.SOPClassUID, made.SOPInstanceUID = SEGMENTATION, meta.MediaStorageSOPInstanceUID
    made.SeriesInstanceUID = f"2.25.{int.from_bytes(mark.digest()[15:30], 'big')}"
    made.Modality, made.SeriesNumber, made.InstanceNumber = "SEG", 1, 1
    made.SeriesDescription, made.ContentLabel = "Draft, not reviewed", "DRAFT"
    made.ContentDescription, made.ContentCreatorName = "Made by a model, not reviewed", ""
    made.ContentDate, made.ContentTime = first.get("StudyDate", ""), first.get("StudyTime", "")
    made.ImageType = ["DERIVED", "PRIMARY"]
    made.Manufacturer, made.ManufacturerModelName = "Wardgate", "pre-annotation"
    made.DeviceSerialNumber, made.SoftwareVersions = "0", "1"
    made.LossyImageCompression = "00"
    made.SegmentationType, made.SegmentsOverlap = "BINARY", "NO"
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = labels.shape[1:]
    made.BitsAllocated = made.BitsStored = 1
    made.HighBit = made.PixelRepresentation = 0
    made.SegmentSequence = [_segment(n, name) for n, name in enumerate(structures, 1)]
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing = first.get("PixelSpacing", [1, 1])
    measures.SliceThickness = first.get("SliceThickness") or 1
    orientation.ImageOrientationPatient = first.get("ImageOrientationPatient", [1, 0, 0, 0, 1, 0])
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    made.SharedFunctionalGroupsSequence = [shared]
    frames, groups = [], []
    for number in range(1, len(structures) + 1):
        for at in range(len(labels)):
            if (labels[at] == number).any():
                frames.append(labels[at] == number)
                groups.append(_frame(number, at, sources[min(at, len(sources) - 1)]))
    if not frames:  # a segmentation has a frame at least
        frames, groups = [np.zeros(labels.shape[1:], bool)], [_frame(1, 0, first)]
    made.NumberOfFrames, made.PerFrameFunctionalGroupsSequence = len(frames), groups
    made.PixelData = pack_bits(np.stack(frames).astype(np.uint8), pad=True)
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


_KEPT = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator"),
)
"""What a segmentation has in common with its image: patient, study, frame of reference."""


def _vr(name: str) -> str:
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(name)
    assert tag is not None
    return str(dictionary_VR(tag))


def _in_order(sources: list[Any]) -> list[Any]:
    """Slices lowest along the normal first, as ``pixels.volume`` has them."""
    if len(sources) == 1:
        return sources

    def height(source: Any) -> float:
        turned = [float(v) for v in source.get("ImageOrientationPatient") or (1, 0, 0, 0, 1, 0)]
        at = source.get("ImagePositionPatient")
        if at is None:
            return float(source.get("InstanceNumber") or 0)
        return float(np.cross(turned[:3], turned[3:]) @ np.array([float(v) for v in at]))

    return sorted(sources, key=height)


def _segment(number: int, name: str) -> Any:
    from pydicom.dataset import Dataset

    def code(value: str, scheme: str, meaning: str) -> Any:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
        return item

    segment = Dataset()
    segment.SegmentNumber, segment.SegmentLabel = number, name[:64]
    segment.SegmentAlgorithmType, segment.SegmentAlgorithmName = "AUTOMATIC", "pre-annotation"
    segment.SegmentedPropertyCategoryCodeSequence = [code("85756007", "SCT", "Tissue")]
    segment.SegmentedPropertyTypeCodeSequence = [code("85756007", "SCT", "Tissue")]
    return segment


def _frame(number: int, at: int, source: Any) -> Any:
    from pydicom.dataset import Dataset

    content, position, segment, group = Dataset(), Dataset(), Dataset(), Dataset()
    content.DimensionIndexValues = [number, at + 1]
    position.ImagePositionPatient = source.get("ImagePositionPatient", [0, 0, at])
    segment.ReferencedSegmentNumber = number
    reference, derived = Dataset(), Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    derived.SourceImageSequence = [reference]
    group.FrameContentSequence, group.PlanePositionSequence = [content], [position]
    group.SegmentIdentificationSequence, group.DerivationImageSequence = [segment], [derived]
    return group
