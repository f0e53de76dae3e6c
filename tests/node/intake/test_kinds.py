"""Each file is known by what is in it, and what has no place in a vault is named."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image as Pictures
from sqlalchemy import select
from typer.testing import CliRunner

from contract.errors import DataError
from node.catalog import schema
from node.catalog.rows import IntakeRow
from node.catalog.store import Catalog
from node.commands.report import app as report_app
from node.deid.engine import Deidentifier
from node.deid.profile import Profile, load_profile
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.drafts import Drafts
from node.intake.manifest import Manifest, read_manifest
from node.intake.quarantine import Quarantine
from node.intake.run import IntakeReport, ingest
from tests.node.deid.slides.making import Plants, aperio
from tests.node.deid.test_volume import WORD, nifti
from tests.node.intake.conftest import NOW

Take = Callable[..., IntakeReport]
Image = Callable[..., bytes]
NUMBER = "MRN-0047119"


def photograph(seed: int = 0, **tags: str) -> bytes:
    """A JPEG of skin, with Exif."""
    random = np.random.default_rng(seed)
    small = random.integers(150, 210, (6, 8, 3), np.uint8)
    picture = Pictures.fromarray(small).resize((160, 120), Pictures.Resampling.BICUBIC)
    exif = Pictures.Exif()
    exif[0x010E], exif[0x013B] = f"{NUMBER} left arm", "Dr. Weiss"
    out = io.BytesIO()
    picture.save(out, "JPEG", exif=exif, comment=NUMBER.encode())
    return out.getvalue()


def listing(folder: Path, *lines: str, columns: str = "path,patient") -> Manifest:
    path = folder.parent / "manifest.csv"
    path.write_text("\n".join([columns, *lines]) + "\n")
    return read_manifest(path)


def everything_kept(home: NodeHome) -> bytes:
    return b"".join(path.read_bytes() for path in home.vault.rglob("*") if path.is_file())


def test_what_is_no_kind_of_ours_is_quarantined_by_name(take: Take, source: Path) -> None:
    volume, pair = bytearray(400), bytearray(400)
    volume[0:4], volume[344:348] = (348).to_bytes(4, "little"), b"n+1\0"
    pair[0:4], pair[344:348] = (348).to_bytes(4, "little"), b"ni1\0"
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("DOE^JANE.dcm", b"inside")
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    for name, data in {
        "brain.nii": bytes(volume),
        "brain.nii.gz": gzip.compress(bytes(volume)),
        "brain.hdr": bytes(pair),
        "study.zip": outer.getvalue(),
        "study.tar": b"a".ljust(257, b"\0") + b"ustar\x0000" + bytes(300),
        "log.gz": gzip.compress(b"lines"),
        "letter.pdf": b"%PDF-1.7\n...",
        "empty.dcm": b"",
        "noise": b"\x01\x02 nothing in particular",
        "photo.jpg": photograph(),
        "scan.czi": b"ZISRAWFILE" + bytes(100),
        "report.txt": b"Jane Doe has been seen.",
    }.items():
        (source / name).write_bytes(data)
    report = take(source)
    assert report.quarantined == {
        "archive": 3,
        "empty": 1,
        "nifti": 1,
        "no-subject": 4,
        "not-dicom": 1,
        "pdf": 1,
        "slide-format-refused": 1,
    }
    assert report.accepted == 0


def test_a_photograph_is_its_patients_and_says_nothing_else(
    take: Take, source: Path, home: NodeHome, catalog: Catalog, pseudonyms: Pseudonyms
) -> None:
    (source / "a.jpg").write_bytes(photograph())
    assert take(source).quarantined == {"no-subject": 1}
    manifest = listing(
        source,
        f"landing/a.jpg,{NUMBER},dermoscopy,{NUMBER} lesion 2,left forearm,left",
        f"landing/b.jpg,{NUMBER},clinical,{NUMBER} lesion 2,{NUMBER},left",
        columns="path,patient,kind,group,body_site,laterality",
    )
    (source / "b.jpg").write_bytes(photograph(1))
    report = take(source, manifest=manifest)
    assert (report.accepted, report.quarantined) == (2, {})
    first, second = sorted(catalog.list_assets(), key=lambda row: row.modality)
    assert (first.kind, first.suffix, first.modality) == ("photograph", ".jpg", "DMS")
    assert (second.modality, second.body_part) == ("XC", "")
    assert first.subject == second.subject == pseudonyms.subject(NUMBER)
    assert (first.rows, first.columns, first.laterality) == (120, 160, "L")
    assert first.body_part == "left forearm"
    kept = (home.vault / "assets" / first.digest[:2] / f"{first.digest}.jpg").read_bytes()
    assert hashlib.sha256(kept).hexdigest() == first.digest
    pixels = [np.asarray(Pictures.open(io.BytesIO(data))) for data in (kept, photograph())]
    assert np.array_equal(*pixels)
    assert NUMBER.encode() not in everything_kept(home)
    with catalog.reading.connect() as connection:
        groups = connection.execute(select(schema.groups)).all()
        links = {row.role for row in connection.execute(select(schema.group_links))}
    assert [(row.kind, row.subject) for row in groups] == [("lesion", first.subject)]
    assert links == {"clinical", "dermoscopy"}
    assert NUMBER not in str(groups)


def test_the_same_file_of_two_patients_is_kept_for_each_and_once_for_one(
    take: Take, source: Path, home: NodeHome, catalog: Catalog, pseudonyms: Pseudonyms
) -> None:
    mask, black = nifti(np.zeros((4, 3, 2), "u1")), np.zeros((40, 50, 3), np.uint8)
    files = {"mask.nii": mask, "report.txt": b"Nothing of note."}
    for suffix, form in (("jpg", "JPEG"), ("png", "PNG"), ("tif", "TIFF")):
        picture = io.BytesIO()
        Pictures.fromarray(black).save(picture, form)
        files[f"black.{suffix}"] = picture.getvalue()
    people = ("one", "another", "one")
    lines = []
    for number, patient in enumerate(people):
        for name, data in files.items():
            (source / f"{number}-{name}").write_bytes(data)
            kind = {"nii": "mask", "txt": "report"}.get(name[-3:], "clinical")
            lines.append(f"landing/{number}-{name},{patient},{kind},abdomen")
    manifest = listing(source, *lines, columns="path,patient,kind,body_site")
    report = take(source, manifest=manifest)
    assert (report.accepted, report.drafts, report.known) == (8, 2, 5), report.lines()
    assert not report.quarantined
    expected = {pseudonyms.subject(patient) for patient in people}
    assets = catalog.list_assets()
    for suffix in (".nii", ".jpg", ".png", ".tif"):
        some = [asset for asset in assets if asset.suffix == suffix]
        assert {asset.subject for asset in some} == expected
        for asset in some:
            kept = (
                home.vault / "assets" / asset.digest[:2] / f"{asset.digest}{suffix}"
            ).read_bytes()
            assert hashlib.sha256(kept).hexdigest() == asset.digest
            assert kept.count(asset.subject.encode()) == 1
            if suffix != ".nii":
                assert np.array_equal(np.asarray(Pictures.open(io.BytesIO(kept))), black)
    # Delivered again, without a manifest too, nothing is taken in a second time.
    (source / "once-more.png").write_bytes(files["black.png"])
    again = take(source)
    assert (again.accepted, again.drafts, again.quarantined) == (0, 0, {}), again.lines()


def test_a_file_stays_in_quarantine_while_it_is_wanted_there_for_somebody(
    take: Take, source: Path, home: NodeHome, catalog: Catalog
) -> None:
    data = nifti(np.ones((4, 3, 2), "u1"))
    (source / "a.nii").write_bytes(data)
    (source / "b.nii").write_bytes(data)
    columns = "path,patient,kind,body_site"
    lines = ["landing/a.nii,one,clinical,knee", "landing/b.nii,another,clinical,knee"]
    held = Quarantine(home).held
    assert take(source, manifest=listing(source, *lines, columns=columns)).quarantined["nifti"] == 2
    lines[0] = lines[0].replace("clinical", "mask")
    assert take(source, manifest=listing(source, *lines, columns=columns)).accepted == 1
    assert len(held()) == 1
    lines[1] = lines[1].replace("clinical", "mask")
    assert take(source, manifest=listing(source, *lines, columns=columns)).accepted == 1
    assert (held(), len(catalog.list_assets())) == ([], 2)


def test_what_was_held_for_being_somebody_elses_is_taken_in_when_it_comes_again(
    take: Take, source: Path, catalog: Catalog, pseudonyms: Pseudonyms
) -> None:
    data = nifti(np.zeros((4, 3, 2), "u1"))
    (source / "a.nii").write_bytes(data)
    digest = pseudonyms.source_of([data])
    catalog.record([], [IntakeRow(digest, "quarantined", "other-subject", None, NOW)])
    manifest = listing(source, "landing/a.nii,one,mask,knee", columns="path,patient,kind,body_site")
    assert take(source, manifest=manifest).accepted == 1
    known = catalog.known(digest)
    assert known is not None and known.subject == pseudonyms.subject("one")


def test_a_slide_loses_label_and_words_and_opens(
    take: Take, source: Path, home: NodeHome, catalog: Catalog
) -> None:
    plants = Plants()
    (source / "S-2024-0815.svs").write_bytes(aperio(plants))
    manifest = listing(
        source, f"landing/S-2024-0815.svs,{NUMBER},H&E", columns="path,patient,stain"
    )
    dry = take(source, manifest=manifest, dry_run=True)
    report = take(source, manifest=manifest)
    assert dry.lines() == report.lines() == ["1  accepted"]
    (asset,) = catalog.list_assets()
    assert (asset.kind, asset.suffix, asset.modality, asset.stain) == ("slide", ".svs", "SM", "H&E")
    path = home.vault / "assets" / asset.digest[:2] / f"{asset.digest}.svs"
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (asset.columns, asset.rows)
        assert not {"label", "macro"} & set(slide.associated_images)
    assert asset.size_bytes == path.stat().st_size
    assert plants.places
    assert not plants.found_in(everything_kept(home))


def test_a_mirax_slide_is_one_asset_of_many_files(
    take: Take, source: Path, home: NodeHome, catalog: Catalog
) -> None:
    from tests.node.deid.slides.making_mirax import mirax

    plants = Plants()
    slide = mirax(source, plants)
    manifest = listing(source, f"landing/{slide.name},{NUMBER}")
    report = take(source, manifest=manifest)
    assert report.accepted == 1, report.lines()
    assert set(report.not_files) <= {"part-of-a-slide"}
    (asset,) = catalog.list_assets()
    path = home.vault / "assets" / asset.digest[:2] / f"{asset.digest}.mrxs"
    listed = path.read_bytes()
    assert hashlib.sha256(listed).hexdigest() == asset.digest
    for line in listed.decode().splitlines():
        digest, size, name = line.split(" ", 2)
        data = (path.with_suffix("") / name).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (digest, int(size))
    with openslide.OpenSlide(path) as opened:
        assert opened.dimensions == (asset.columns, asset.rows)
    assert [path.name for path in (home.vault / "incoming").iterdir()] == ["lock"]


@pytest.mark.parametrize("flavour", ["LABEL", "OVERVIEW"])
def test_pictures_of_a_slides_label_are_dropped(
    flavour: str, take: Take, source: Path, home: NodeHome, make_image: Image
) -> None:
    data = make_image(
        1,
        SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6",
        ImageType=["ORIGINAL", "PRIMARY", flavour, "NONE"],
    )
    (source / "label.dcm").write_bytes(data)
    report = take(source)
    assert report.lines() == ["1  dropped: slide-label"]
    assert not list((home.vault / "assets").rglob("*.dcm"))
    assert not list(home.quarantine.iterdir())
    assert take(source).known == 1


def test_a_volume_is_its_patients_and_lies_beside_its_mask(
    take: Take, source: Path, home: NodeHome, catalog: Catalog
) -> None:
    data = nifti(np.arange(24, dtype="i2").reshape(4, 3, 2))
    (source / "a.nii.gz").write_bytes(gzip.compress(data))
    (source / "a-mask.nii").write_bytes(nifti(np.ones((4, 3, 2), "u1")))
    columns = "path,patient,kind,group,body_site"
    lines = [
        f"landing/a.nii.gz,{NUMBER},{{}},{NUMBER} case,brain",
        f"landing/a-mask.nii,{NUMBER},{{}},{NUMBER} case,brain",
    ]
    unsaid = listing(source, *(line.format("clinical") for line in lines), columns=columns)
    assert take(source, manifest=unsaid).quarantined == {"nifti": 2}
    told = [line.format(kind) for line, kind in zip(lines, ("mr", "mask"), strict=True)]
    report = take(source, manifest=listing(source, *told, columns=columns))
    assert (report.accepted, report.quarantined) == (2, {})
    rows = sorted(catalog.list_assets(), key=lambda row: row.modality)
    assert [(row.kind, row.suffix, row.modality) for row in rows] == [
        ("volume", ".nii", "MR"),
        ("volume", ".nii", "SEG"),
    ]
    assert (rows[0].frames, rows[0].rows, rows[0].columns) == (2, 3, 4)
    assert rows[0].body_part == "brain"
    with catalog.reading.connect() as connection:
        (group,) = connection.execute(select(schema.groups)).all()
        links = {row.role: row.target for row in connection.execute(select(schema.group_links))}
    assert group.kind == "case"
    assert links == {"mr": rows[0].digest, "mask": rows[1].digest}
    assert NUMBER.encode() not in everything_kept(home)
    assert WORD not in everything_kept(home)


def test_a_head_that_nobody_agreed_to_show_stays_out_under_a_profile_that_refuses_faces(
    source: Path, home: NodeHome, catalog: Catalog, pseudonyms: Pseudonyms
) -> None:
    (source / "a.nii").write_bytes(nifti(np.zeros((4, 3, 2), "u1")))
    profile = load_profile("basic")
    options = profile.settings.options.model_copy(update={"visual_features": "refused"})
    settings = profile.settings.model_copy(update={"options": options})
    deidentifier = Deidentifier(Profile(settings), pseudonyms)

    def accepted(site: str, consent: str) -> bool:
        columns = "path,patient,kind,body_site,consent_faces"
        line = f"landing/a.nii,{NUMBER},mask,{site},{consent}"
        manifest = listing(source, line, columns=columns)
        report = ingest([source], home, catalog, deidentifier, clock=lambda: NOW, manifest=manifest)
        return report.accepted == 1

    for site in ("", "Brain", "Kopf", "头部", "69536005", "whole body", "left", "chest and skull"):
        assert not accepted(site, "no"), site
    assert accepted("Brain", "yes")
    (source / "a.nii").write_bytes(nifti(np.ones((4, 3, 2), "u1")))
    assert accepted("Left knee", "no")


def test_a_report_is_a_draft_until_a_person_has_released_it(
    take: Take, source: Path, home: NodeHome, catalog: Catalog, pseudonyms: Pseudonyms
) -> None:
    text = f"Report on Jane Doe ({NUMBER}), born 1951-03-13.\nNo sign of malignancy.\n"
    (source / "r.txt").write_text(text)
    manifest = listing(
        source,
        f'landing/r.txt,{NUMBER},"Doe, Jane",1951-03-13',
        columns="path,patient,name,birth_date",
    )
    assert take(source, manifest=manifest).drafts == 1
    assert catalog.list_assets() == []
    (draft,) = Drafts(home).list()
    assert draft.subject == pseudonyms.subject(NUMBER)
    assert "No sign of malignancy." in draft.text
    assert not [word for word in ("Jane", "Doe", NUMBER, "1951") if word in draft.text]

    def run(*words: str) -> str:
        result = CliRunner().invoke(report_app, [*words, "--home", str(home.root)])
        assert result.exit_code == 0, result.output
        return result.output

    assert draft.identifier in run("list")
    assert draft.text in run("show", draft.identifier[:6])
    refused = CliRunner().invoke(
        report_app,
        ["release", draft.identifier, "--digest", "0" * 64, "--by", "W", "--home", str(home.root)],
    )
    assert refused.exit_code != 0
    assert len(Drafts(home).list()) == 1
    run("release", draft.identifier, "--digest", draft.digest, "--by", "Dr. Weiss")
    (asset,) = catalog.list_assets()
    assert (asset.kind, asset.suffix) == ("report", ".json")
    path = home.vault / "assets" / asset.digest[:2] / f"{asset.digest}.json"
    assert json.loads(path.read_bytes()) == {"subject": draft.subject, "text": draft.text}
    assert Drafts(home).list() == []
    assert take(source, manifest=manifest).known == 1
    assert Drafts(home).list() == []


@contextmanager
def refused(message: str) -> Iterator[None]:
    with pytest.raises(DataError, match=message) as caught:
        yield
    assert NUMBER not in str(caught.value)


def test_a_manifest_is_refused_by_line_and_quotes_nobody(source: Path) -> None:
    with refused("no column 'patient'"):
        listing(source, f"a,{NUMBER}", columns="path,mrn")
    with refused("unknown or doubled column"):
        listing(source, f"a,{NUMBER},x", columns="path,patient,phone")
    with refused("line 3: path or patient is empty"):
        listing(source, f"a,{NUMBER}", f",{NUMBER}")
    with refused("line 3: the file was named before"):
        listing(source, f"a,{NUMBER}", f"x/../a,{NUMBER}")
    with refused("line 2: birth_date is not YYYY-MM-DD"):
        listing(source, f"a,{NUMBER},{NUMBER}", columns="path,patient,birth_date")
    with refused("line 2: kind is not one of clinical"):
        listing(source, f"a,{NUMBER},{NUMBER}", columns="path,patient,kind")
    with refused("line 2: consent_faces is not yes or no"):
        listing(source, f"a,{NUMBER},{NUMBER}", columns="path,patient,consent_faces")
    with refused("line 2: laterality"):
        listing(source, f"a,{NUMBER},{NUMBER}", columns="path,patient,laterality")
    with refused("line 2: not as many cells"):
        listing(source, f"a,{NUMBER},{NUMBER}")
    (source.parent / "manifest.csv").write_bytes(b"path,patient\n\xff,1\n")
    with refused("not UTF-8"):
        read_manifest(source.parent / "manifest.csv")


def test_a_manifest_shows_nothing_of_its_lines(source: Path) -> None:
    manifest = listing(source, f"a,{NUMBER}")
    line = manifest.get(str(source.parent / "a"))
    assert line is not None
    assert line.patient == NUMBER
    assert NUMBER not in f"{manifest!r} {line!r}"
    assert manifest.get(str(source / "a")) is None


def test_a_manifest_within_the_tree_is_no_file_of_it(take: Take, source: Path) -> None:
    (source / "list.csv").write_text(f"path,patient\na.jpg,{NUMBER}\n")
    (source / "a.jpg").write_bytes(photograph())
    report = take(source, manifest=read_manifest(source / "list.csv"))
    assert report.lines() == ["1  accepted"]
