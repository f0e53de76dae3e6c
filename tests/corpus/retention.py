"""The attributes that de-identification has no reason to touch."""

from __future__ import annotations

from pydicom.datadict import tag_for_keyword

from tests.corpus.search import Haystack

_KEYWORDS = [
    "SOPClassUID",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "ImageType",
    "PatientSex",
    "PatientAge",
    "PatientWeight",
    "BodyPartExamined",
    "SliceThickness",
    "KVP",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "NumberOfAverages",
    "ImagingFrequency",
    "ImagedNucleus",
    "EchoNumbers",
    "MagneticFieldStrength",
    "SpacingBetweenSlices",
    "NumberOfPhaseEncodingSteps",
    "EchoTrainLength",
    "PercentSampling",
    "PercentPhaseFieldOfView",
    "PixelBandwidth",
    "FlipAngle",
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "MRAcquisitionType",
    "DataCollectionDiameter",
    "ReconstructionDiameter",
    "GantryDetectorTilt",
    "TableHeight",
    "RotationDirection",
    "ExposureTime",
    "XRayTubeCurrent",
    "Exposure",
    "FilterType",
    "FocalSpots",
    "PatientPosition",
    "ViewPosition",
    "InstanceNumber",
    "AcquisitionNumber",
    "SeriesNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceLocation",
    "Laterality",
    "PositionReferenceIndicator",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "FrameIncrementPointer",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "WindowCenter",
    "WindowWidth",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "ImagerPixelSpacing",
    "DistanceSourceToDetector",
    "DistanceSourceToPatient",
    "Grid",
    "DoseUnits",
    "DoseType",
    "DoseGridScaling",
    "GridFrameOffsetVector",
    "ConversionType",
    "PatientOrientation",
    "TemporalPositionIdentifier",
    "FrameTime",
    "CineRate",
    "HeartRate",
    "ContrastBolusRoute",
    "NumberOfWaveformChannels",
    "SamplingFrequency",
    "SegmentationType",
    "CompletionFlag",
    "VerificationFlag",
    "ValueType",
    "ContinuityOfContent",
    "VariableFlipAngleFlag",
    "AngioFlag",
    "CountsAccumulated",
    "EnergyWindowLowerLimit",
    "NumberOfDetectors",
    "UltrasoundColorDataPresent",
    "PhysicalUnitsXDirection",
    "PhysicalDeltaX",
    "RegionSpatialFormat",
]
"""Acquisition, geometry, image and patient characteristics, wherever they are in a file."""
_TAGS = {f"{tag_for_keyword(k):08X}" for k in _KEYWORDS if tag_for_keyword(k) is not None}
_CODES = {"00080100", "00080102", "00080104"}


def must_keep(before: Haystack) -> list[str]:
    """Return the places of the file's must-keep attributes that have a value."""
    # Codes of anatomy, of units, of concepts: coded by the standard, not by a hospital.
    coded = ("00082218", "00082228", "004008EA", "0040A043", "00540220", "00081140")
    found = []
    for place, values in before.values.items():
        *levels, last = place.split("/")
        if not values or any("@" in level for level in levels):
            continue
        if last in _TAGS or (last in _CODES and levels and levels[-1] in coded):
            found.append(place)
    return found
