"""Make a corpus: real files, invented patients, identifiers planted everywhere, an answer key."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence

from tests.corpus import documents, drawn, hidden, plants
from tests.corpus.key import File, Key, Plant
from tests.corpus.patients import Patient, normal, patients
from tests.corpus.search import haystack
from tests.corpus.sheet import Sheet, item
from tests.corpus.sources import BURNED, CORE, MODALITIES, MORE, source

FIRST = 90_001
"""Instance Number of the first file; no other number is used twice."""
_ROOT = "1.2.826.0.1.3680043.10.777."
_CODECS = {"GB18030": "gb18030", "ISO_IR 192": "utf-8", "ISO_IR 100": "utf-8", "": "utf-8"}


class Corpus:
    """Writes files one after the other; the same seed gives the same corpus."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = Random(seed)
        self.key = Key(seed)
        self.patients = patients(self.random)
        self.number = FIRST
        self.uids: dict[tuple[object, ...], str] = {}
        self.instances: dict[int, list[tuple[str, str]]] = {}

    def next_patient(self) -> Patient:
        """Return each patient in turn."""
        return self.patients[(self.number - FIRST) * 5 % len(self.patients)]

    def uid(self, *of: object) -> str:
        """Return the same UID for the same thing."""
        if of not in self.uids:
            self.uids[of] = _ROOT + str(self.random.randrange(10**23, 10**24))
        return self.uids[of]

    def sheet(self, dataset: Any, patient: Patient) -> Sheet:
        """Start a file: its patient, its character set, its UIDs, the standard's attributes."""
        number, self.number = self.number, self.number + 1
        sheet = Sheet(number, patient, dataset, self.random, patient.charset)
        self._charset(sheet)
        study = self.random.randrange(4)
        dataset.StudyInstanceUID = self.uid("study", patient.index, study)
        dataset.SeriesInstanceUID = self.uid("series", patient.index, study, number // 2)
        dataset.SOPInstanceUID = self.uid("instance", number)
        if "FrameOfReferenceUID" in dataset:
            dataset.FrameOfReferenceUID = self.uid("frame", patient.index, study)
        dataset.InstanceNumber = number
        if getattr(dataset, "file_meta", None):
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        plants.standard(sheet, study, padded=number % 5 == 0)
        return sheet

    def _charset(self, sheet: Sheet) -> None:
        ds, charset = sheet.dataset, sheet.patient.charset
        _to_ascii(ds)
        if charset[-1] in _CODECS and self.random.random() < 0.25:
            # The bytes are of one character set, the file says another or nothing.
            sheet.undeclared = _CODECS[charset[-1]]
            if self.random.random() < 0.5:
                ds.SpecificCharacterSet = "ISO_IR 100"
            elif "SpecificCharacterSet" in ds:
                del ds.SpecificCharacterSet
        elif charset == ("",):
            ds.pop("SpecificCharacterSet", None)
        else:
            ds.SpecificCharacterSet = list(charset) if len(charset) > 1 else charset[0]

    def refer(self, sheet: Sheet) -> None:
        """Point to other files of the patient, and to the study."""
        known = self.instances.setdefault(sheet.patient.index, [])
        if known:
            picked = [self.random.choice(known) for _ in range(2)]
            sheet.dataset.ReferencedImageSequence = Sequence(
                [
                    item(ReferencedSOPClassUID=cls, ReferencedSOPInstanceUID=uid)
                    for cls, uid in dict.fromkeys(picked)
                ]
            )
            if self.random.random() < 0.4:
                hidden.uids_in_text(sheet, picked[0][1])
        known.append((str(sheet.dataset.SOPClassUID), str(sheet.dataset.SOPInstanceUID)))

    def write(self, sheet: Sheet, name: str, path: str = "") -> Path:
        """Write the file under a path that identifies its patient, and keep the key's lines."""
        p, ds = sheet.patient, sheet.dataset
        family = normal(p.person.family.latin)
        if not path:
            suffix = self.random.choice((".dcm", "", ".DCM", ".ima"))
            path = f"{family}_{p.mrn}/{p.studies[0]:%Y-%m-%d}/{family}-{sheet.number}{suffix}"
        sheet.plant(
            "paths", "path", path, (family, normal(p.mrn)) if len(family) > 4 else (normal(p.mrn),)
        )
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds.save_as(target, enforce_file_format=False)
        if sheet.after:
            with target.open("ab") as file:
                file.write(sheet.after)
        meta = getattr(ds, "file_meta", Dataset())
        self.key.files.append(
            File(sheet.number, path, p.index, name, str(ds.get("Modality", "")),
                 str(meta.get("TransferSyntaxUID", "")))
        )  # fmt: skip
        self.key.plants += dict.fromkeys(sheet.plants)
        self.key.words += sheet.words
        self.key.boxes += sheet.boxes
        self.key.safe_private += sheet.safe_private
        return target


def make(folder: Path, seed: int, *, small: bool = False) -> Key:
    """Write a corpus into a new folder and return its answer key."""
    folder.mkdir(parents=True)
    corpus = Corpus(folder, seed)
    for name in (*CORE, *(() if small else MORE)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _fill(corpus, dcmread(source(name), force=True), name, small=small)
    for patient in corpus.patients[:: 4 if small else 2]:
        _documents(corpus, patient)
    media(corpus, corpus.patients[seed % len(corpus.patients)])
    return corpus.key


def _fill(corpus: Corpus, dataset: Any, name: str, *, small: bool) -> None:
    random = corpus.random
    if name in MODALITIES:
        dataset.Modality = MODALITIES[name]
    sheet = corpus.sheet(dataset, corpus.next_patient())
    plants.descriptors(sheet, random.randrange(4, 8))
    plants.unlisted(sheet, random.randrange(3, 7))
    for chance, place in PLACES:
        if random.random() < (max(chance, 0.5) if small else chance):
            place(sheet)
    if dataset.get("Modality") == "SR":
        documents.report(sheet)
    elif dataset.get("Modality") in ("RTPLAN", "RTSTRUCT"):
        documents.plan(sheet)
    elif dataset.get("Modality") == "ECG":
        documents.waveform(sheet)
    elif name in BURNED:
        many = int(dataset.get("NumberOfFrames", 1) or 1)
        drawn.burn(sheet, frame=random.choice((-1, random.randrange(many))) if many > 1 else -1)
    for chance, place in PICTURED:
        if random.random() < chance:
            place(sheet)
    corpus.refer(sheet)
    corpus.write(sheet, name)


def _documents(corpus: Corpus, patient: Patient) -> None:
    """Write a presentation state, a key object selection, a PDF and a CDA of one patient."""
    targets = corpus.instances.get(patient.index, [])[:2]
    makers: tuple[tuple[str, str, Callable[[Sheet], None]], ...] = (
        ("PR", documents.PRESENTATION, lambda sheet: documents.presentation(sheet, targets)),
        ("DOC", documents.PDF, documents.encapsulated_pdf),
        ("KO", documents.KEY_OBJECT, lambda sheet: documents.key_object(sheet, targets)),
        ("DOC", documents.CDA, documents.encapsulated_cda),
    )
    for modality, sop_class, fill in makers[:: 1 if patient.index % 4 == 0 else 2]:
        sheet = corpus.sheet(documents.fresh(modality, sop_class), patient)
        plants.descriptors(sheet, 2)
        hidden.file_meta(sheet)
        if patient.index % 2 == 0:
            hidden.private(sheet)
        fill(sheet)
        corpus.refer(sheet)
        corpus.write(sheet, f"made {modality}")


def media(corpus: Corpus, patient: Patient) -> None:
    """Write a file-set with a directory (PS3.10 section 8): what a patient brings on a disc."""
    stage = corpus.folder / "stage"
    sheets = []
    for name in ("MR_small.dcm", "4919", "6154"):
        sheet = corpus.sheet(dcmread(source(name)), patient)
        plants.descriptors(sheet, 3)
        corpus.refer(sheet)
        corpus.write(sheet, name, f"stage/{sheet.number}")
        sheets.append(sheet)
    files = FileSet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sheet in sheets:
            files.add(stage / str(sheet.number))
        files.ID = patient.mrn
        files.write(corpus.folder / "disc")
    shutil.rmtree(stage)
    paths = {str(f.SOPInstanceUID): Path(f.path).relative_to(corpus.folder) for f in files}
    moved = {s.number: str(paths[str(s.dataset.SOPInstanceUID)]) for s in sheets}
    key = corpus.key
    key.files = [replace(f, path=moved.get(f.number, f.path)) for f in key.files]
    key.plants = [
        p for p in key.plants if not (p.file in moved and p.place in ("path", "preamble"))
    ]
    number, corpus.number = corpus.number, corpus.number + 1
    key.files.append(File(number, "disc/DICOMDIR", -1, "made DICOMDIR", "", "1.2.840.10008.1.2.1"))
    found = haystack(corpus.folder / "disc" / "DICOMDIR")
    known = {
        p
        for p in key.plants
        if p.file in moved and p.category in ("standard", "free text", "dates")
    }
    noted: set[tuple[str, tuple[str, ...]]] = set()
    for place in found.texts:
        for plant in sorted(known, key=lambda p: (p.file, p.place, p.value)):
            same = place.startswith("00041220/") and place.split("/")[-1] == plant.place
            held = same and any(found.holds(place, t) for t in plant.tokens)
            if held and (place, plant.tokens) not in noted:
                noted.add((place, plant.tokens))
                key.plants.append(replace(plant, file=number, place=place, category="DICOMDIR"))
    key.plants.append(Plant(number, "DICOMDIR", "00041130", patient.mrn, (normal(patient.mrn),)))


PLACES: tuple[tuple[float, Callable[[Sheet], None]], ...] = (
    (0.6, plants.nested),
    (0.5, hidden.private),
    (0.15, hidden.text_in_safe_private),
    (0.5, hidden.file_meta),
    (0.2, hidden.trailing),
    (0.15, hidden.padding),
)
PICTURED: tuple[tuple[float, Callable[[Sheet], None]], ...] = (
    (0.25, drawn.overlay),
    (0.1, drawn.curve),
    (0.15, drawn.icon),
    (0.7, drawn.stream_comments),
)


def _to_ascii(dataset: Dataset) -> None:
    """Replace the real file's own text outside ASCII: the invented patient's set may lack it."""
    for element in dataset.iterall():
        if element.VR in ("PN", "LO", "SH", "ST", "LT", "UT", "UC"):
            value = element.value
            if isinstance(value, str) or element.VR == "PN":
                if not str(value).isascii():
                    element.value = str(value).encode("ascii", "replace").decode()
            elif value:
                element.value = [str(v).encode("ascii", "replace").decode() for v in value]
