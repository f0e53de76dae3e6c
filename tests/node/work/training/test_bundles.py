"""Recipes are checked before a byte is written, and again whenever they are looked up."""

import hashlib
import importlib.metadata
import io
import stat
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from sqlalchemy import create_engine

from contract.errors import DocumentError, NotFound
from foundation.bundle import Bundle
from node.catalog import schema
from node.home import NodeHome
from node.work.training import bundles
from node.work.training.bundles import build_bundle, find, list_recipes, withdraw
from tests.node.work.training.flower_apps import NOW, approved, bundle, pack

PROJECT = bundle()
ROOT = Path(__file__).resolve().parents[4]


def engine_of(home):
    engine = create_engine(f"sqlite:///{home / 'catalogue.db'}")
    schema.metadata.create_all(engine)
    return engine


def files_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {n: archive.read(n) for n in archive.namelist() if n != ".info/CONTENT"}


def test_an_approved_recipe_is_found_by_its_digest(tmp_path):
    recipe = approved(tmp_path / "h", PROJECT)
    found = find(engine_of(tmp_path / "h"), NodeHome(tmp_path / "h"), recipe.bundle)
    assert found is not None
    assert found.bundle == hashlib.sha256(PROJECT).hexdigest()
    assert {lock.name for lock in found.lock} == {"flwr", "numpy"}
    assert all(lock.version and not lock.sha256 for lock in found.lock)
    assert (found.folder / "app/tiny/client_app.py").stat().st_mode & 0o007 == 0


def test_a_folder_gives_the_same_bundle_every_time(tmp_path):
    folder = tmp_path / "tiny"
    Bundle.parse(PROJECT).write(folder)
    assert build_bundle(folder) == build_bundle(folder)
    assert Bundle.parse(build_bundle(folder)).client == "tiny.client_app:app"


def test_a_folder_that_is_no_app_is_refused_in_one_line(tmp_path):
    with pytest.raises(DocumentError) as caught:
        build_bundle(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.py",
        "/etc/evil.py",
        "a/../../evil.py",
        "a//b.py",
        "C:\\evil.py",
        "a/./b.py",
        "..",
        "",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(tmp_path, name):
    data = pack({**files_of(PROJECT), name: b"x"})
    with pytest.raises(DocumentError):
        approved(tmp_path / "h", data)
    assert not list((tmp_path / "h" / "recipes").iterdir())


@pytest.mark.parametrize("name", ["learning/__init__.py", "node.py", "contract/deep/x.py"])
def test_a_package_that_ours_would_hide_is_refused(name):
    files = files_of(bundle())
    with pytest.raises(DocumentError, match=f"{name[:4]}.* must have another name"):
        Bundle.parse(pack({**files, name: b""}))
    Bundle.parse(pack({**files, f"tiny/{name}": b""}))


def test_a_link_in_a_bundle_is_refused():
    buffer = io.BytesIO(PROJECT)
    with zipfile.ZipFile(buffer, "a") as archive:
        link = zipfile.ZipInfo("tiny/link.py")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DocumentError, match="regular files"):
        Bundle.parse(buffer.getvalue())


def test_a_zip_bomb_is_refused():
    data = pack({**files_of(PROJECT), "tiny/bomb.py": bytes(100 * 2**20)})
    assert len(data) < 2**20
    with pytest.raises(DocumentError, match="unpacks to over"):
        Bundle.parse(data)


def test_a_declared_size_that_lies_is_refused():
    data = bytearray(pack({**files_of(PROJECT), "tiny/bomb.py": bytes(2**20)}))
    true, small = (2**20).to_bytes(4, "little"), (10).to_bytes(4, "little")
    with pytest.raises(DocumentError):
        Bundle.parse(bytes(data.replace(true, small)))


def test_a_bundle_over_ten_megabytes_is_not_read(tmp_path):
    (tmp_path / "big.fab").write_bytes(bytes(10 * 2**20 + 1))
    with pytest.raises(Exception, match="larger than"):
        bundles.read_source(tmp_path / "big.fab")


@pytest.mark.parametrize("manifest", [b"", b"pyproject.toml,00,8", b"\xff\n,,"])
def test_a_manifest_that_differs_from_the_files_is_refused(manifest):
    with pytest.raises(DocumentError, match="CONTENT"):
        Bundle.parse(pack(files_of(PROJECT), manifest))


def test_a_wrong_hash_in_the_manifest_is_refused():
    files = files_of(PROJECT)
    lines = [f"{n},{hashlib.sha256(d + b'!').hexdigest()},{len(d) * 8}" for n, d in files.items()]
    with pytest.raises(DocumentError, match="CONTENT"):
        Bundle.parse(pack(files, "\n".join(lines).encode()))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", PROJECT[:300], b"x" * 5000])
def test_what_is_no_zip_is_refused(data):
    with pytest.raises(DocumentError):
        Bundle.parse(data)


def test_parameters_must_be_known_and_of_their_type():
    app = Bundle.parse(PROJECT)
    assert app.run_config({"rate": 1})["rate"] == 1.0
    assert type(app.run_config({"rate": 1})["rate"]) is float
    for wrong in ({"unknown": 1}, {"rounds": 1.5}, {"rounds": True}, {"rate": "1"}):
        with pytest.raises(DocumentError):
            app.run_config(wrong)


# ---- dependencies ------------------------------------------------------------------------------


def wheel(folder, name, version, content=b"ANSWER = 42\n", requires=()):
    """Make a wheel by hand (PyPA: binary distribution format)."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {r}\n" for r in requires)
    files = {
        f"{name}/__init__.py": content,
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, data in files.items():
            archive.writestr(file, data)
        archive.writestr(f"{info}/RECORD", "".join(f"{f},,\n" for f in files))
    return path


def test_missing_packages_are_all_named(tmp_path):
    data = bundle(dependencies='"flwr", "nosuchthing>=2", "norsuchother"')
    with pytest.raises(DocumentError, match=r"norsuchother.*nosuchthing"):
        approved(tmp_path / "h", data)
    with pytest.raises(DocumentError, match="nosuch"):
        (tmp_path / "empty").mkdir()
        approved(tmp_path / "h", data, tmp_path / "empty")


def test_a_package_of_another_version_than_ours_is_missing(tmp_path):
    with pytest.raises(DocumentError, match="numpy"):
        approved(tmp_path / "h", bundle(dependencies='"numpy<1"'))


def test_flowers_own_runtime_is_not_needed(tmp_path):
    approved(tmp_path / "h", bundle(dependencies='"flwr[simulation]>=1.20"'))


def test_an_address_instead_of_a_package_is_refused(tmp_path):
    data = bundle(dependencies='"evil @ https://example.org/evil.whl"')
    with pytest.raises(DocumentError, match="address"):
        approved(tmp_path / "h", data)


def test_a_wheelhouse_supplies_the_whole_closure_locked_by_hash(tmp_path):
    house = tmp_path / "wheels"
    outer = wheel(house, "wgouter", "1.2", requires=["wginner>=3", "numpy"])
    inner = wheel(house, "wginner", "3.1")
    recipe = approved(tmp_path / "h", bundle(dependencies='"wgouter"'), house)
    locked = {lock.name: lock for lock in recipe.lock}
    assert set(locked) == {"wgouter", "wginner"}
    assert locked["wginner"].version == "3.1"
    assert locked["wginner"].sha256 == hashlib.sha256(inner.read_bytes()).hexdigest()
    assert locked["wgouter"].sha256 == hashlib.sha256(outer.read_bytes()).hexdigest()
    assert (recipe.folder / "site-packages/wginner/__init__.py").exists()
    assert not (recipe.folder / "site-packages/numpy").exists()


def test_a_pin_to_another_version_is_named_with_what_is_here_and_what_helps(tmp_path):
    here = importlib.metadata.version("numpy")
    with pytest.raises(DocumentError) as caught:
        approved(tmp_path / "h", bundle(dependencies='"numpy==1.0"'))
    assert f"numpy==1.0 (here {here})" in str(caught.value)
    assert "--own-versions" in str(caught.value)


def test_a_steward_may_take_the_versions_that_are_here_and_they_are_locked(tmp_path):
    data = bundle(dependencies='"numpy==1.0"')
    recipe = approved(tmp_path / "h", data, own_versions=True)
    locked = {lock.name: lock.version for lock in recipe.lock}
    assert locked["numpy"] == importlib.metadata.version("numpy")
    with pytest.raises(DocumentError, match="wgnowhere"):
        approved(tmp_path / "h2", bundle(dependencies='"wgnowhere==1.0"'), own_versions=True)


def test_a_steward_may_leave_out_a_package_that_is_named_and_not_imported(tmp_path):
    data = bundle(dependencies='"WG_Nowhere[vision]>=1", "numpy"')
    recipe = approved(tmp_path / "h", data, without=frozenset({"wg-nowhere"}))
    assert {lock.name for lock in recipe.lock} >= {"numpy"}
    assert "wg-nowhere" not in {lock.name for lock in recipe.lock}


def test_a_package_counts_that_brings_the_same_modules_under_another_name(tmp_path):
    recipe = approved(tmp_path / "h", bundle(dependencies='"xgboost>=2"'))
    assert "xgboost-cpu" in {lock.name for lock in recipe.lock}


# ---- afterwards --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["bundle.fab", "app/tiny/client_app.py"])
def test_a_byte_changed_since_approval_is_noticed(tmp_path, path):
    recipe = approved(tmp_path / "h", PROJECT)
    file = recipe.folder / path
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(DocumentError):
        find(engine_of(tmp_path / "h"), NodeHome(tmp_path / "h"), recipe.bundle)


def test_a_file_added_since_approval_is_noticed(tmp_path):
    recipe = approved(tmp_path / "h", PROJECT)
    (recipe.folder / "app" / "tiny" / "extra.py").write_bytes(b"")
    with pytest.raises(DocumentError, match="changed since"):
        find(engine_of(tmp_path / "h"), NodeHome(tmp_path / "h"), recipe.bundle)


def test_a_withdrawn_recipe_is_listed_but_not_found(tmp_path):
    home, recipe = NodeHome(tmp_path / "h"), approved(tmp_path / "h", PROJECT)
    engine = engine_of(home.root)
    withdraw(engine, recipe.bundle, NOW)
    assert find(engine, home, recipe.bundle) is None
    assert [r.withdrawn_at for r in list_recipes(engine, home)] == [NOW]
    with pytest.raises(NotFound):
        withdraw(engine, recipe.bundle, NOW)
    assert approved(home.root, PROJECT).bundle == recipe.bundle
    assert find(engine, home, recipe.bundle) is not None


PUBLISHED = {
    "quickstart-sklearn": '"flwr-datasets[vision]>=0.5.0", "scikit-learn>=1.6.1"',
    "quickstart-pandas": '"flwr-datasets[vision]>=0.6.0", "numpy>=2.0.2", "pandas==2.2.3"',
    "quickstart-xgboost": '"flwr-datasets>=0.6.0", "xgboost>=2.0.0"',
    "fl-tabular": '"flwr-datasets>=0.6.0", "torch==2.8.0", "scikit-learn==1.7.1"',
}
"""What Flower's examples depend on, beside ``flwr[simulation]>=1.27.0``."""


@pytest.mark.parametrize("example", PUBLISHED)
def test_a_published_example_finds_what_it_needs_where_the_extra_examples_is(tmp_path, example):
    data = bundle(dependencies=f'"flwr[simulation]>=1.27.0", {PUBLISHED[example]}')
    without = frozenset({"flwr-datasets"})
    recipe = approved(tmp_path / "h", data, own_versions=True, without=without)
    assert not any(lock.wheel for lock in recipe.lock)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    brought = {Requirement(text).name for text in (*extras["node"], *extras["examples"])}
    assert {lock.name for lock in recipe.lock} <= brought | {"numpy"}
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert {f"{lock.name}=={lock.version.partition('+')[0]}" for lock in recipe.lock} <= {*pinned}


@pytest.mark.parametrize("name", ["xgboost_comprehensive", "lerobot_example", "whisper_example"])
def test_a_name_that_flower_does_not_take_is_refused_with_its_own_sentence(tmp_path, name):
    folder = tmp_path / "tiny"
    Bundle.parse(PROJECT).write(folder)
    project = folder / "pyproject.toml"
    project.write_text(project.read_text().replace('name = "tiny"', f'name = "{name}"'))
    with pytest.raises(
        DocumentError, match=f'"{name}" is invalid, .* letters, digits, and hyphens'
    ):
        build_bundle(folder)
