"""DICOM whole-slide images: container, specimen, barcode and label texts go, frames stay."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from node.deid.elements import PIXEL_DATA, parse
from node.deid.engine import Deidentifier

_SECRETS = ("S21-004711", "Kowalczewski", "BC0815", "PX123456", "Larkspur")


def _made() -> bytes:
    """Return a small slide with identifiers in every attribute of its specimens."""
    dataset = Dataset()
    dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.77.1.6")
    dataset.SOPInstanceUID, dataset.StudyInstanceUID = UID("1.2.3.4.1"), UID("1.2.3.4.2")
    dataset.SeriesInstanceUID = UID("1.2.3.4.3")
    dataset.Modality, dataset.ImageType = "SM", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.PatientName, dataset.PatientID = "Kowalczewski^Janusz", "PX123456"
    dataset.ContainerIdentifier, dataset.BarcodeValue = "S21-004711-A1", "BC0815-S21-004711"
    dataset.LabelText = "Kowalczewski J S21-004711 H&E"
    dataset.SpecimenLabelInImage = "NO"
    specimen = Dataset()
    specimen.SpecimenIdentifier, specimen.SpecimenUID = "S21-004711-A", UID("1.2.3.4.5")
    specimen.SpecimenShortDescription = "breast, Kowalczewski, Larkspur"
    specimen.SpecimenDetailedDescription = "invasive ductal carcinoma of Janusz Kowalczewski"
    issuer = Dataset()
    issuer.LocalNamespaceEntityID = "Larkspur"
    specimen.IssuerOfTheSpecimenIdentifierSequence = Sequence([issuer])
    text = Dataset()
    text.ValueType, text.TextValue = "TEXT", "block S21-004711-A, formalin"
    name = Dataset()
    name.CodeValue, name.CodingSchemeDesignator = "121041", "DCM"
    name.CodeMeaning = "Specimen Identifier"
    text.ConceptNameCodeSequence = Sequence([name])
    step = Dataset()
    step.SpecimenPreparationStepContentItemSequence = Sequence([text])
    specimen.SpecimenPreparationSequence = Sequence([step])
    dataset.SpecimenDescriptionSequence = Sequence([specimen])
    dataset.InstitutionalDepartmentName = "Ward Larkspur"
    dataset.BurnedInAnnotation = "NO"
    dataset.Rows = dataset.Columns = 4
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation, dataset.NumberOfFrames = 7, 0, "2"
    dataset.PixelData = bytes(range(32))
    dataset["PixelData"].VR = "OB"
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.mark.parametrize("profile", ["basic", "longitudinal"])
def test_no_identifier_of_a_specimen_stays(profile: str, request: pytest.FixtureRequest) -> None:
    deidentifier: Deidentifier = request.getfixturevalue(profile)
    cleaned = bytes(deidentifier.deidentify(_made()).data)
    assert not [secret for secret in _SECRETS if secret.encode() in cleaned]
    dataset = dcmread(io.BytesIO(cleaned))
    assert dataset.PixelData == bytes(range(32))
    assert dataset.Modality == "SM"


@pytest.mark.parametrize(
    "name", ["boxes_0.dcm", "google_camelyon_jpeg.dcm", "highdicom_sm_image.dcm",
             "highdicom_sm_image_jpegls.dcm"],
)  # fmt: skip
def test_the_frames_of_a_public_sample_stay_as_they_are(
    name: str, sample: Callable[[str], Path], basic: Deidentifier
) -> None:
    data = sample(name).read_bytes()
    cleaned = bytes(basic.deidentify(data).data)
    before, after = parse(data), parse(cleaned)
    old, new = before.dataset.get(PIXEL_DATA), after.dataset.get(PIXEL_DATA)
    assert old is not None and new is not None
    if old.fragments is None:
        assert data[old.start : old.end] == cleaned[new.start : new.end]
        return
    kept = [cleaned[a:b] for a, b in new.fragments or ()]
    assert len(kept) == len(old.fragments)
    assert dcmread(io.BytesIO(cleaned)).pixel_array.shape
