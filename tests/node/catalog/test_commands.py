"""``wardgate-node catalogue`` and the options of ``release create``."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from contract.errors import ConfigurationError, NotFound, UsageError
from node.catalog.sources import CatalogClinicalStore
from node.catalog.store import Catalog
from node.commands import catalogue, release
from node.commands.selecting import selection_of
from node.home import NodeHome
from tests.node.catalog.making import Records, asset, consent, finding, observation, source


@pytest.fixture
def filled(catalog: Catalog, home: NodeHome, trial: bytes) -> Catalog:
    home.pseudonym_key.touch(mode=0o600)
    home.pseudonym_key.write_bytes(b"k" * 32)
    catalog.record(
        [
            asset(1, "a", home, study_date=date(2024, 5, 1)),
            asset(2, "a", home, study_date=date(2025, 5, 1)),
            asset(3, "b", home, modality="SM", kind="slide", suffix=".svs", stain="HE"),
        ],
        [],
    )
    rows = Records(
        {"observations": [observation("b", "|x", 2.0)], "consents": [consent("b", "research")]}
    )
    CatalogClinicalStore(catalog).replace_source(source(), rows, (finding(count=7),))
    return catalog


def call(app: object, home: NodeHome, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--home", str(home.root)])  # type: ignore[arg-type]


def counted(home: NodeHome, *arguments: str) -> list[int]:
    result = call(catalogue.app, home, "count", *arguments)
    assert result.exit_code == 0, result.output
    return [int(line.split()[0]) for line in result.output.splitlines()]


def test_what_is_held_is_shown(filled: Catalog, home: NodeHome) -> None:
    shown = call(catalogue.app, home, "show").output
    for text in ("dicom CT", "slide SM", "assets of CHEST", "table trial", "epic (fhir)"):
        assert text in shown
    assert "7  findings" in shown
    assert "7  epic  no-value  Observation" in call(catalogue.app, home, "quality").output
    nothing = call(catalogue.app, home, "quality", "--source", "other").output
    assert "Nothing was found" in nothing


def test_a_cohort_is_counted_by_options_and_by_a_file(
    filled: Catalog, home: NodeHome, tmp_path: Path
) -> None:
    assert counted(home, "--modality", "CT") == [1, 1, 2]
    assert counted(home, "--modality", "CT", "--from", "2025-01-01") == [1, 1, 1]
    assert counted(home, "--modality", "CT", "--until", "2023-01-01") == [0, 0, 0]
    assert counted(home, "--kind", "slide", "--stain", "he") == [1, 1, 1]
    assert counted(home, "--has", "|x") == [1]
    assert counted(home, "--purpose", "research", "--modality", "CT") == [0, 0, 0]
    assert counted(home, "--table", "trial") == [3]
    path = tmp_path / "where.toml"
    path.write_text('[subjects.not.asset]\nkind = ["slide"]\n[assets]\n')
    assert counted(home, "--where", str(path)) == [1, 1, 2]
    assert counted(home, "--where", str(path), "--modality", "SM") == [0, 0, 0]
    path.write_text("[assets]\nsql = 1\n")
    bad = call(catalogue.app, home, "count", "--where", str(path))
    assert isinstance(bad.exception, ConfigurationError)
    missing = call(catalogue.app, home, "count", "--table", "nothing")
    assert isinstance(missing.exception, NotFound)


def test_a_release_is_made_of_a_file_and_options(
    filled: Catalog, home: NodeHome, tmp_path: Path
) -> None:
    path = tmp_path / "where.toml"
    path.write_text('observations = ["|x"]\n[assets]\nkind = ["slide"]\n')
    made = call(release.app, home, "create", "slides", "--where", str(path))
    assert "slides: 1 subjects, 1 SM, 1 observations." in made.output
    digest = made.output.split()[-1]
    shown = call(release.app, home, "show", "slides").output
    assert "assets.parquet" in shown and "1 assets" in shown
    folder = home.release(digest) / "assets"
    assert [path.suffix for path in folder.iterdir()] == [".svs"]
    assert "unchanged (3 files)" in call(release.app, home, "verify", "slides").output
    call(release.app, home, "revoke", "slides")
    again = call(release.app, home, "create", "slides", "--where", str(path))
    assert isinstance(again.exception, UsageError)
    unknown = call(release.app, home, "create", "us", "--modality", "US")
    assert isinstance(unknown.exception, NotFound)


def test_options_add_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "where.toml"
    path.write_text('table = "trial"\n[assets]\nmodality = ["CT"]\n[subjects]\ntable = "b"\n')
    found = selection_of(path, table="trial", body_part=["HEAD"], purpose="research")
    assert found.assets is not None and found.assets.all is not None
    assert [f.modality or f.body_part for f in found.assets.all] == [("CT",), ("HEAD",)]
    assert found.subjects is not None and found.subjects.all is not None
    assert len(found.subjects.all) == 2
    with pytest.raises(UsageError):
        selection_of(path, table="other")
    assert selection_of(None, modality=[]).assets is None
    everything = selection_of(None, all_assets=True).assets
    assert everything is not None and everything.modality is None


def test_every_command_has_an_example(home: NodeHome) -> None:
    from node.commands import consent, group

    for app, name, commands in (
        (catalogue.app, "catalogue", ("show", "count", "quality")),
        (consent.app, "consent", ("withdraw", "list", "show", "add")),
        (group.app, "group", ("add", "list", "show", "check", "remove")),
    ):
        for one in commands:
            output = CliRunner().invoke(app, [one, "--help"]).output
            assert f"Example: wardgate-node {name} {one}" in " ".join(output.split())
