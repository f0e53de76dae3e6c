"""Studies of invented patients, as an archive would hold them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

PATIENTS = ("QUILLFEATHER^BARNABY", "ZWETSCHGE^ÄNNE")
CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "OT": SecondaryCaptureImageStorage}


@dataclass(frozen=True)
class Study:
    """What a made study has."""

    number: int
    modalities: tuple[str, ...] = ("CT",)
    per_series: int = 3
    date: str = "20260115"
    description: str = "THORAX NATIV"
    body_part: str = "CHEST"
    side: int = 16
    """Pixels of a row and of a column."""
    compressed: bool = False

    @property
    def accession(self) -> str:
        """Its accession number."""
        return f"ACC{self.number:05d}"

    @property
    def uid(self) -> str:
        """Its Study Instance UID."""
        return f"1.2.826.0.1.3680043.8.498.{self.number + 1}"

    @property
    def patient(self) -> str:
        """Its patient's identifier."""
        return f"HOSP-{self.number:06d}"

    def instance_uids(self) -> list[str]:
        """Return every SOP Instance UID."""
        return [
            f"{self.uid}.{series}.{place}"
            for series in range(1, len(self.modalities) + 1)
            for place in range(1, self.per_series + 1)
        ]

    def files(self) -> Iterator[bytes]:
        """Yield every instance as a DICOM file."""
        for series, modality in enumerate(self.modalities, 1):
            for place in range(1, self.per_series + 1):
                yield _file(self, series, modality, place)


def _file(study: Study, series: int, modality: str, place: int) -> bytes:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = CLASSES[modality]
    dataset.SOPInstanceUID = f"{study.uid}.{series}.{place}"
    dataset.StudyInstanceUID = study.uid
    dataset.SeriesInstanceUID = f"{study.uid}.{series}"
    dataset.StudyDate = study.date
    dataset.StudyTime = "101500"
    dataset.AccessionNumber = study.accession
    dataset.StudyDescription = study.description
    dataset.StudyID = str(study.number)
    dataset.Modality = modality
    dataset.BodyPartExamined = study.body_part
    dataset.PatientName = PATIENTS[study.number % len(PATIENTS)]
    dataset.PatientID = study.patient
    dataset.PatientBirthDate = "19510203"
    dataset.PatientSex = "F"
    dataset.ReferringPhysicianName = "DOKTOR^NOAH"
    dataset.SeriesNumber = series
    dataset.InstanceNumber = place
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = dataset.Columns = study.side
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    if modality == "OT":
        dataset.ConversionType = "WSD"
        dataset.BurnedInAnnotation = "NO"
    noise = np.random.default_rng(study.number * 1000 + series * 100 + place)
    pixels = noise.integers(0, 4000, (study.side, study.side), dtype=np.uint16)
    dataset.PixelData = pixels.tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    if study.compressed:
        dataset.compress(RLELossless, generate_instance_uid=False)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


__all__ = ["EncapsulatedPDFStorage", "Study"]
