"""One file of the tree: de-identified and written, or the reason why not."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from contract.errors import AlreadyExists, WardgateError
from node.deid.engine import Deidentifier
from node.deid.export.forks import Row
from node.deid.export.kinds import is_refused_slide, kind_of
from node.deid.export.names import instance_folder, instance_name, picture_name
from node.deid.export.output import Output
from node.deid.export.patients import NOBODY, Patients
from node.deid.export.source import Source, Unreadable, opened
from node.deid.export.tree import Tree
from node.deid.identifiers import Known, Matcher, Rules
from node.deid.reading import Unsafe

WRITTEN, DUPLICATE, CONTESTED = "written", "duplicate", "contested"
_HEAD_BYTES = 4096
_VISIBLE_LIGHT = "1.2.840.10008.5.1.4.1.1.77.1"
_SUFFIXES = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif"}
_NUMBER = re.compile(r"\w*\d{3,}\w*")
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass
class Work:
    """What a worker needs; called with a position it returns the file's row."""

    tree: Tree
    patients: Patients
    deidentifier: Deidentifier
    target: Path | None
    """None writes nothing."""
    _outputs: dict[str, Output] = field(default_factory=dict)

    def __call__(self, position: int, worker: str) -> Row:
        row: Row = {"position": position}
        if position in self.tree.others:
            return row | {"outcome": self.tree.others[position]}
        output = self._output(worker)
        try:
            with opened(self.tree.path(position)) as source:
                return row | self._take(position, source, output)
        except Unsafe as unsafe:
            row["outcome"] = unsafe.reason
        except Unreadable:
            row["outcome"] = "unreadable-file"
        except WardgateError:
            raise
        except OSError:
            # What can't be written is a StorageError by now, so it is the file that can't be read.
            row["outcome"] = "unreadable-file"
        except Exception:
            # Whatever a file does to its reader, it is left out and the rest goes on.
            row["outcome"] = "internal-error"
        if output is not None:
            output.drop_part()
        return row

    def _output(self, worker: str) -> Output | None:
        if self.target is None:
            return None
        if worker not in self._outputs:
            self._outputs[worker] = Output(self.target, worker)
        return self._outputs[worker]

    def _take(self, position: int, source: Source, output: Output | None) -> Row:
        path = self.tree.path(position)
        kind = kind_of(source.data[:_HEAD_BYTES], path)
        if kind == "archive":
            raise Unsafe("archive")
        if kind == "part-of-slide":
            return {"outcome": "part-of-slide"}
        if kind == "slide":
            return self._slide(position, output)
        if kind == "photograph":
            return self._photograph(position, source, output)
        try:
            return self._dicom(position, source, output)
        except Unsafe as unsafe:
            if unsafe.reason == "not-dicom" and is_refused_slide(path):
                raise Unsafe("slide-format-refused") from None
            raise

    def _dicom(self, position: int, source: Source, output: Output | None) -> Row:
        known = self.patients.known_of(position)
        data = source.data if isinstance(source.data, bytes) else memoryview(source.data)
        result = self.deidentifier.deidentify(data, known)
        if result.sop_class_uid.startswith(_VISIBLE_LIGHT):
            from node.deid.slides import drops_instance

            if drops_instance(result.image_type, result.sop_class_uid):
                return {"outcome": "slide-label"}
        folder = instance_folder(result.subject, result.study_uid, result.series_uid)
        uid = result.sop_instance_uid
        relative = f"{folder}/{instance_name(uid, 0)}"
        descriptor = source.descriptor if source.is_mapped else None

        def write(target: int) -> None:
            result.write(target, descriptor)

        row = self._write(position, write, relative, output)
        if row["outcome"] == CONTESTED:
            row["uid"] = uid
        return row | {"actions": dict(result.actions), "bytes": result.size_bytes}

    def _photograph(self, position: int, source: Source, output: Output | None) -> Row:
        from node.deid.photographs import clean_photograph

        subject, matcher = self._owner(position)
        reads = self.deidentifier.profile.settings.options.pixels == "ocr"
        cleaned = clean_photograph(
            bytes(source.data), faces="mask", matcher=matcher, text=reads, subject=subject
        )
        relative = picture_name(
            subject, "PHOTOS", self._digest(position), _SUFFIXES[cleaned.format]
        )

        def write(target: int) -> None:
            with os.fdopen(target, "wb", closefd=False) as file:
                file.write(cleaned.data)

        return self._write(position, write, relative, output)

    def _slide(self, position: int, output: Output | None) -> Row:
        from node.deid.slides import Format, clean_slide, recognise

        path = Path(self.tree.path(position))
        subject, matcher = self._owner(position)
        form = recognise(path)
        suffix = ".mrxs" if form is Format.MIRAX else path.suffix.lower()
        if suffix not in (".mrxs", ".svs", ".ndpi", ".tif", ".tiff"):
            suffix = ".tif"
        relative = picture_name(subject, "SLIDES", self._digest(position), suffix)
        if output is None:
            if form is None or form.refused:
                raise Unsafe("slide-format-refused")
            return {"outcome": WRITTEN, "file": relative}
        target = output.path(relative)
        output.make_folder(relative)
        try:
            clean_slide(
                path,
                target,
                matcher=matcher,
                pseudonyms=self.deidentifier.pseudonyms,
                subject=subject,
            )
        except AlreadyExists:
            return {"outcome": DUPLICATE, "file": relative}
        except BaseException:
            target.unlink(missing_ok=True)
            if suffix == ".mrxs":
                shutil.rmtree(target.with_suffix(""), ignore_errors=True)
            raise
        return {"outcome": WRITTEN, "file": relative}

    def _write(
        self,
        position: int,
        write: Callable[[int], object],
        relative: str,
        output: Output | None,
    ) -> Row:
        if output is None:
            return {"outcome": WRITTEN, "file": relative}
        output.write_part(write)
        if output.finish(relative):
            return {"outcome": WRITTEN, "file": relative}
        if output.same_as_part(relative):
            output.drop_part()
            return {"outcome": DUPLICATE, "file": relative}
        part = output.set_aside(f"contested-{position}")
        return {"outcome": CONTESTED, "file": relative, "part": part}

    def _owner(self, position: int) -> tuple[str, Matcher]:
        """Return the subject of a picture, and what finds its identifiers.

        Pictures don't say whose they are. Beside DICOM files of one patient they are that
        patient's; else the folder stands for a patient, and at the top each file for one.
        """
        pseudonyms = self.deidentifier.pseudonyms
        relative = self.tree.name(position)
        folder = self.tree.path(position).rpartition("/")[0]
        number = self.patients.of_folder.get(folder, NOBODY)
        known = _named(relative)
        if number != NOBODY:
            known |= self.patients.known[number]
            key = self.patients.keys[number]
            subject = (
                pseudonyms.unnamed_subject(key[1:])
                if key.startswith("\0")
                else pseudonyms.subject(key)
            )
        else:
            parent = relative.split("/")[-2] if "/" in relative else relative
            subject = pseudonyms.subject(parent)
        return subject, Matcher(known | self.deidentifier.lists, Rules())

    def _digest(self, position: int) -> str:
        name = os.fsencode(self.tree.name(position))
        return self.deidentifier.pseudonyms.source(b"path", name)


def _named(relative: str) -> Known:
    """Return what the names of a file and its folders may say of a patient."""
    stem = relative.rpartition(".")[0] or relative
    return Known(
        persons=frozenset(
            "^".join(found) for part in stem.split("/") if (found := _WORD.findall(part))
        ),
        numbers=frozenset(_NUMBER.findall(stem)),
    )


def died(position: int) -> Row:
    """Return the row of a file that ended its worker."""
    return {"position": position, "outcome": "worker-died"}
