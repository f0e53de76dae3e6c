"""A face stays when the manifest or a consent in the catalogue says so, and nobody withdrew."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from node.catalog.consents import Consents
from node.catalog.store import Catalog
from node.commands import consent
from node.deid.pseudonyms import Pseudonyms
from node.home import NodeHome
from node.intake.face_consents import FaceConsents
from node.intake.manifest import Listed, read_manifest
from node.intake.run import IntakeReport
from tests.node.intake.conftest import NOW

TODAY = NOW.date()


def line(patient: str, *, faces: bool = False) -> Listed:
    return Listed(patient, "", None, (), "clinical", faces, "", "", "", "")


def consents_of(home: NodeHome, folder: Path, *lines: str) -> None:
    path = folder / "consents.csv"
    path.write_text("\n".join(["number,basis,purposes,from,until", *lines]) + "\n")
    done = CliRunner().invoke(consent.app, ["add", str(path), "--home", str(home.root)])
    assert done.exit_code == 0, done.output


def test_a_consent_covers_faces_while_it_holds_and_until_it_is_withdrawn(
    home: NodeHome, catalog: Catalog, pseudonyms: Pseudonyms, tmp_path: Path
) -> None:
    consents_of(
        home,
        tmp_path,
        "MRN1,consent,research; faces,2020-01-01,",
        "MRN2,consent,research,2020-01-01,",
        "MRN3,consent,faces,2020-01-01,2021-01-01",
        "MRN5,consent,faces,,",
    )
    held = Consents(catalog, home, pseudonyms.days)
    held.withdraw([pseudonyms.subject(patient) for patient in ("MRN5", "MRN6")], datetime.now(UTC))
    stays = {
        (patient, faces): FaceConsents(held, pseudonyms)
        .applied(line(patient, faces=faces), TODAY)
        .consent_faces
        for patient in ("MRN1", "MRN2", "MRN3", "MRN4", "MRN5", "MRN6")
        for faces in (False, True)
    }
    assert {patient for (patient, faces), stay in stays.items() if stay and not faces} == {"MRN1"}
    withdrew = {patient for (patient, faces), stay in stays.items() if faces and not stay}
    assert withdrew == {"MRN5", "MRN6"}


def test_a_photograph_in_quarantine_for_its_face_is_taken_in_when_a_consent_comes(
    home: NodeHome,
    catalog: Catalog,
    source: Path,
    tmp_path: Path,
    take: Callable[..., IntakeReport],
) -> None:
    skimage = importlib.util.find_spec("skimage")
    if skimage is None or skimage.origin is None:
        pytest.skip("no scikit-image here")
    face = (Path(skimage.origin).parent / "data" / "astronaut.png").read_bytes()
    (source / "a.png").write_bytes(face)
    path = tmp_path / "manifest.csv"
    path.write_text("path,patient,kind\nlanding/a.png,MRN1,clinical\n")
    manifest = read_manifest(path)
    refused = take(source, manifest=manifest, faces="quarantine")
    assert refused.quarantined == {"face": 1}
    consents_of(home, tmp_path, "MRN1,consent,faces,2020-01-01,")
    assert take(source, manifest=manifest, faces="quarantine").accepted == 1
    [asset] = catalog.list_assets()
    assert asset.kind == "photograph"
