"""Rates over many pictures: real ones with planted text of many fonts, and a file of 4 GB."""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pydicom
import pytest

from node.deid.identifiers import Known, Matcher
from node.deid.pixels.cleaning import clean_pixels
from tests.corpus import drawn
from tests.corpus.patients import patients
from tests.corpus.sheet import Sheet
from tests.corpus.sources import BURNED, REAL_TEXT, source
from tests.node.deid.pixels.making import (
    NOBODY,
    SETTINGS,
    after,
    before,
    likeness,
    native,
    of_dataset,
)

GONE, KEPT = 0.98, 0.95


@pytest.mark.slow
def test_nearly_all_planted_identifiers_go_and_harmless_text_stays() -> None:
    counts: Counter[tuple[str, bool]] = Counter()
    for seed in (501, 502):
        random = Random(seed)
        people = patients(random)
        for number, name in enumerate(sorted(BURNED - REAL_TEXT)):
            patient = people[(number * 5 + seed) % len(people)]
            dataset = pydicom.dcmread(source(name))
            sheet = Sheet(number, patient, dataset, random, patient.charset)
            if not drawn.burn(sheet):
                continue
            person = patient.person
            known = Known(
                persons=frozenset([person.dicom, person.native]),
                numbers=frozenset([patient.mrn, *patient.accessions]),
                phrases=frozenset([patient.institution, patient.town]),
                birth_dates=frozenset([patient.birth]),
            )
            image = of_dataset(dataset)
            new = after(image, clean_pixels(image, Matcher(known), SETTINGS))[0]
            old = before(image)[0]
            for box in sheet.boxes:
                left, top, right, bottom = box.box
                was, now = old[top:bottom, left:right], new[top:bottom, left:right]
                if box.harmless:
                    counts["kept", bool(np.array_equal(was, now))] += 1
                else:
                    counts["gone", likeness(was, now) < 0.3] += 1
    for what, least in (("gone", GONE), ("kept", KEPT)):
        total = counts[what, True] + counts[what, False]
        assert total > 60 and counts[what, True] >= least * total, counts


PROGRAM = """
import mmap, sys
from dataclasses import replace
import numpy as np
from tests.node.deid.pixels.making import NOBODY, SETTINGS, native
from node.deid.pixels.cleaning import clean_pixels

frames = 8192
with open(sys.argv[1], "r+b") as file:
    held = mmap.mmap(file.fileno(), 0)
    view = memoryview(held)
    image = replace(native(np.zeros((1, 512, 1024), np.uint8)), frames=frames, native=view)
    page = mmap.PAGESIZE
    def release(offset, length):
        first = offset // page * page
        held.madvise(mmap.MADV_DONTNEED, first, offset + length - first)
    cleaned = clean_pixels(image, NOBODY, SETTINGS, release)
    # The peak that getrusage tells includes what the parent held when it forked.
    status = dict(line.split(":") for line in open("/proc/self/status"))
    print(cleaned.account.frames, int(status["VmHWM"].split()[0]) // 1024)
"""


@pytest.mark.slow
def test_four_gigabytes_are_cleaned_in_under_300_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "pixels"
    with path.open("wb") as file:
        file.truncate(8192 * 512 * 1024)  # a sparse file: frames of zeros, but for some
        for number in range(0, 8192, 512):
            file.seek(number * 512 * 1024)
            file.write(bytes([number // 512]) * 512 * 1024)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        check=True,
    )
    frames, peak_mb = map(int, run.stdout.split())
    assert frames == 8192 and peak_mb < 300


def test_a_view_of_a_mapped_file_is_read_in_place(tmp_path: Path) -> None:
    path = tmp_path / "pixels"
    path.write_bytes(bytes(range(256)) * 256)
    with path.open("rb") as file:
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    image = replace(native(np.zeros((1, 256, 256), np.uint8)), native=memoryview(held))
    assert not clean_pixels(image, NOBODY, SETTINGS).changed
