"""The recipes that outline: a U-Net learned over hospitals, and drafts drawn with it."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pydicom
import pytest

from learning import pixels
from learning.masks import SEGMENTATION, of_picture, of_volume, segmentation
from learning.nifti import packed, read, written
from learning.pixels import Volume
from learning.releases import Release, is_held_out
from learning.segmentation import LOSSES, _loss, _sums, dice
from node.work.training.draft_files import check_content
from tests.recipes.harness import GROUPS, File, Recipe, dicom, photograph, series, write_release
from tests.recipes.pictures import organ

BUSI = Path("/work/shared/data/breast-ultrasound")
US = "1.2.840.10008.5.1.4.1.1.6.1"
MR = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe("segmentation")


@pytest.fixture(scope="module")
def drawing() -> Recipe:
    return Recipe("preannotation")


def links(pairs: list[tuple[list[File], list[File]]]) -> pl.DataFrame:
    rows = [
        (file.subject, f"case-{number}", "case", role, "asset", file.digest)
        for number, pair in enumerate(pairs)
        for role, files in zip(("image", "mask"), pair, strict=True)
        for file in files
    ]
    return pl.DataFrame(rows, schema=GROUPS, orient="row")


def release(folder: Path, pairs: list[tuple[list[File], list[File]]]) -> Path:
    files = [file for pair in pairs for part in pair for file in part]
    return write_release(folder, files=files, groups=links(pairs))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two hospitals' ultrasound images with masks, one of them brighter."""
    folders = []
    for site, contrast in (("north", 1.0), ("south", 0.7)):
        rng = np.random.default_rng(len(folders))
        pairs: list[tuple[list[File], list[File]]] = []
        for number in range(24):
            subject = f"{site}-{number}"
            image, mask = organ(rng, (32, 32), contrast)
            scan = dicom(image, subject, modality="US", sop_class_uid=US, bits=8)
            pairs.append(([scan], [photograph(mask * 255, subject)]))
        folders.append(release(tmp_path_factory.mktemp(site) / "release", pairs))
    return folders


SETTINGS: dict[str, Any] = {
    "structures": "organ", "shape": "32,32", "widths": "8,16,32", "num-server-rounds": 4,
    "local-epochs": 4, "least-steps": 0, "learning-rate": 0.01, "batch-size": 4, "held-out": 0.3,
    "augment": False,
}  # fmt: skip


def mean_shape(folders: list[Path]) -> float:
    """The Dice of one mask for all: where more than half of those trained on have the organ."""
    masks: dict[bool, list[np.ndarray[Any, Any]]] = {False: [], True: []}
    for folder in folders:
        found = Release(folder)
        for asset in found.assets(kind="photograph"):
            held = is_held_out(asset.subject, 0.3, 1)
            masks[held].append(of_picture(asset, 1))
    middle = (np.mean(masks[False], axis=0) > 0.35).astype(np.uint8)
    return float(np.mean([dice(middle, mask, 1) for mask in masks[True]]))


@pytest.fixture(scope="module")
def learned(recipe: Recipe, pictures: list[Path]) -> Any:
    return recipe.run(pictures, recipe.config(**SETTINGS))


def test_organs_are_outlined_better_than_by_their_mean_shape(
    learned: Any, pictures: list[Path]
) -> None:
    learned.check_replies(["train_loss"], ["eval_loss", "eval_dice"])
    baseline = mean_shape(pictures)
    assert 0.2 < baseline < 0.8
    assert learned.mean("eval_dice") > baseline + 0.1


def test_a_second_run_gives_the_same_bytes(recipe: Recipe, pictures: list[Path]) -> None:
    config = recipe.config(
        **(SETTINGS | {"num-server-rounds": 1, "local-epochs": 1, "augment": True})
    )
    one, other = (recipe.run(pictures, config).arrays for _ in range(2))
    assert {n: w.numpy().tobytes() for n, w in one.items()} == {
        n: w.numpy().tobytes() for n, w in other.items()
    }


def test_volumes_are_outlined_from_series_and_their_segmentations(
    recipe: Recipe, tmp_path: Path
) -> None:
    folders = []
    for site in range(2):
        rng = np.random.default_rng(site)
        pairs: list[tuple[list[File], list[File]]] = []
        for number in range(6):
            subject = f"{site}-{number}"
            image, mask = organ(rng, (8, 16, 16))
            scans = series(image, subject, modality="MR", sop_class_uid=MR, bits=8)
            if number % 2:
                masks = series(mask, subject, name="mask", modality="MR", bits=8)
            else:
                masks = [segmented(mask, scans, tmp_path)]
            pairs.append((scans, masks))
        folders.append(release(tmp_path / str(site), pairs))
    config = recipe.config(
        **(SETTINGS | {"shape": "8,16,16", "widths": "8,16", "num-server-rounds": 3})
    )
    run = recipe.run(folders, config)
    first = run.metrics(last=False)[0]["eval_dice"]
    assert run.mean("eval_dice") > max(first, 0.6)


def segmented(mask: np.ndarray[Any, Any], scans: list[File], folder: Path) -> File:
    """The mask as a DICOM segmentation of a series."""
    made = write_release(folder / scans[0].subject, files=scans)
    data = segmentation(mask, Release(made).assets(), ["organ"])
    row = {"kind": "dicom", "modality": "SEG", "sop_class_uid": SEGMENTATION}
    return File(scans[0].subject, data, ".dcm", row)


HEAD = "1.2.840.10008.5.1.4.1.1.2"


def head(subject: str, rng: np.random.Generator, sides: tuple[int, ...]) -> tuple[Volume, Any]:
    """A volume of any size and spacing, with a kidney and a small bright tumour within it."""
    values, labels = rng.normal(0.2, 0.05, sides), np.zeros(sides, np.uint8)
    at = np.stack(np.mgrid[tuple(slice(side) for side in sides)])
    middle = np.array(sides)[:, None, None, None] / 2 + rng.uniform(-1, 1, (3, 1, 1, 1))
    kidney = (((at - middle) / (np.array(sides)[:, None, None, None] / 4)) ** 2).sum(0) < 1
    tumour = ((at - middle) ** 2).sum(0) < 6
    labels[kidney], labels[tumour] = 1, 2
    values[kidney] += 0.4
    values[tumour] += 0.4
    directions = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
    return Volume(values, (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), directions), labels


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two hospitals' volumes that differ in size: one sends NIfTI, one DICOM with NIfTI masks."""
    folders = []
    for site in range(2):
        rng, pairs, fold = np.random.default_rng(site), [], []
        for number in range(6):
            subject, sides = f"{site}-{number}", (10 + number, 20 + number, 24 - number)
            image, labels = head(subject, rng, sides)
            stored = np.clip(image.values * 200, 0, 255).astype(np.uint8)
            one = [volume(subject, stored, image)]
            if site:
                spaced = {"thickness_mm": 2.0, "modality": "CT", "sop_class_uid": HEAD, "bits": 8}
                one = series(stored, subject, **spaced)
            pairs.append((one, [volume(subject, labels, image)]))
            fold.append({"subject": subject, "fold": ("train", "test")[number == 5]})
        folder = release(tmp_path_factory.mktemp("heads") / str(site), pairs)
        pl.DataFrame(fold).write_parquet(folder / "tables" / "folds.parquet")
        folders.append(folder)
    return folders


def volume(subject: str, values: np.ndarray[Any, Any], image: Volume) -> File:
    row = {"kind": "volume", "rows": values.shape[1], "columns": values.shape[2]}
    return File(subject, written(values, image), ".nii", row | {"frames": len(values)})


PATCHED: dict[str, Any] = SETTINGS | {
    "structures": "kidney,tumour", "shape": "8,16,16", "patches": 4, "spacing-mm": "2,1,1",
    "widths": "8,16", "num-server-rounds": 2, "local-epochs": 8, "batch-size": 2,
    "split-table": "folds", "split-column": "fold", "around": 0.7, "window-high": 255.0,
}  # fmt: skip


def test_volumes_of_any_size_are_learned_in_patches_and_outlined_whole(
    recipe: Recipe, drawing: Recipe, heads: list[Path], tmp_path: Path
) -> None:
    run = recipe.run(heads, recipe.config(**PATCHED))
    assert [row["num-examples"] for row in run.metrics()] == [1, 1]
    assert [row["num-examples"] for row in run.metrics("train")] == [5, 5]
    # Whoever says "nothing" has 0, and whoever finds kidneys alone at most a half.
    assert run.mean("eval_dice") > 0.7
    names = ("structures", "shape", "patches", "spacing-mm", "widths", "window-high")
    config = drawing.config(
        **{name: PATCHED[name] for name in names},
        **{"kind": "volume", "format": "nifti", "weights": write_weights(run.arrays, tmp_path)},
    )
    (tmp_path / "drafts").mkdir()
    where = {"drafts-path": str(tmp_path / "drafts"), "weights-path": str(tmp_path)}
    drawing.run(heads[:1], config, **where)
    found = Release(heads[0])
    known = {asset.digest: asset for asset in found.assets()}
    for path in (tmp_path / "drafts").iterdir():
        check_content(path.name, path.read_bytes())
        (tmp_path / "d.nii").write_bytes(gzip.decompress(path.read_bytes()))
        draft = read(tmp_path / "d.nii")
        image = pixels.volume([known[path.name.partition("-")[0]]])
        assert draft.values.shape == image.values.shape
        np.testing.assert_allclose(draft.origin_mm, image.origin_mm)


def test_patches_are_the_same_in_a_second_run(recipe: Recipe, heads: list[Path]) -> None:
    told = {"num-server-rounds": 1, "local-epochs": 1, "augment": True, "loss": "dice-focal"}
    one, other = (recipe.run(heads, recipe.config(**(PATCHED | told))) for _ in range(2))
    assert {n: w.numpy().tobytes() for n, w in one.arrays.items()} == {
        n: w.numpy().tobytes() for n, w in other.arrays.items()
    }


def test_losses_are_the_same_in_one_piece_and_in_slabs() -> None:
    import torch

    logits, wanted = torch.randn(1, 3, 6, 5, 4), torch.randint(0, 3, (1, 6, 5, 4))
    for kind in LOSSES:
        whole = float(_loss(kind, [_sums(kind, logits, wanted)]))
        slabs = zip(logits.split(2, 2), wanted.split(2, 1), strict=True)
        assert float(_loss(kind, [_sums(kind, *slab) for slab in slabs])) == pytest.approx(whole)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"shape": "8"}, "shape"),
        ({"shape": "x"}, "shape"),
        ({"widths": "6,7"}, "widths"),
        ({"structures": "a,a"}, "structures"),
        ({"window-low": 5.0}, "window-low"),
        ({"mask-role": "image"}, "mask-role"),
        ({"held-out": -0.1}, "held-out"),
        ({"colour": True, "shape": "8,8,8"}, "colour"),
        ({"patches": -1}, "patches"),
        ({"spacing-mm": "1"}, "spacing-mm"),
        ({"shape": "8,8,8", "patches": 1, "spacing-mm": "1,2"}, "spacing-mm"),
        ({"overlap": 1.0}, "overlap"),
        ({"around": 2.0}, "around"),
        ({"loss": "x"}, "loss"),
        ({"split-column": "fold"}, "split-table"),
    ],
)
def test_a_run_config_that_doesnt_fit_names_its_key(
    recipe: Recipe, changes: dict[str, Any], named: str
) -> None:
    from learning.segmentation import Pairs

    with pytest.raises(ValueError, match=named):
        Pairs.read(recipe.config(**changes))


# ---- drafts --------------------------------------------------------------------------------------


def test_drafts_stay_and_only_counts_come_back(
    drawing: Recipe, learned: Any, pictures: list[Path], tmp_path: Path
) -> None:
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    weights = write_weights(learned.arrays, tmp_path)
    config = drawing.config(
        **{
            "structures": "organ", "shape": "32,32", "widths": "8,16,32", "modality": "US",
            "weights": weights, "smallest": 5,
        }
    )  # fmt: skip
    where = {"drafts-path": str(drafts), "weights-path": str(tmp_path)}
    run = drawing.run(pictures[:1], config, **where)
    (reply,) = run.grid.replies
    assert set(reply.content) == {"metrics"}
    assert run.arrays.keys() == learned.arrays.keys()  # the model itself, unchanged
    metrics = dict(reply.content.metric_records["metrics"])
    assert set(metrics) == {"num-examples", "drafts", "empty"}
    assert metrics["num-examples"] == 24
    assert metrics["drafts"] == len(list(drafts.iterdir())) > 20
    found = Release(pictures[0])
    known = {asset.digest: asset for asset in found.assets()}
    overlaps = []
    for path in drafts.iterdir():
        check_content(path.name, path.read_bytes())
        told = pydicom.dcmread(path)
        asset = known[path.name.partition("-")[0]]
        assert told.PatientID == asset.subject
        assert told.SegmentationType == "BINARY"
        group = next(g for g in found.groups().values() if g[0].subject == asset.subject)
        (mask,) = [known[link.target] for link in group if link.role == "mask"]
        if is_held_out(asset.subject, 0.3, 1):
            overlaps.append(dice(told.pixel_array, of_picture(mask, 1), 1))
    # Of patients whom the model hasn't seen, and an image without a draft counts as none.
    asked = [link for group in found.groups().values() for link in group if link.role == "image"]
    unseen = sum(is_held_out(link.subject, 0.3, 1) for link in asked)
    drafted = sum(overlaps) / unseen
    assert drafted > mean_shape(pictures[:1]) + 0.1
    assert drafted > by_grey(pictures[0]) + 0.1


def by_grey(folder: Path) -> float:
    """The Dice of a threshold, on either side of it: the best of all for those trained on."""
    release = Release(folder)
    known = {asset.digest: asset for asset in release.assets()}
    pairs: dict[bool, list[tuple[Any, Any]]] = {False: [], True: []}
    for image, mask in release.groups().values():
        values = pixels.image(known[image.target])
        held_out = is_held_out(image.subject, 0.3, 1)
        pairs[held_out].append((values, of_picture(known[mask.target], 1)))
    cuts = np.quantile([values for values, _ in pairs[False]], np.linspace(0.05, 0.95, 19))

    def score(half: bool, cut: float, sign: int) -> float:
        found = [dice((sign * v > sign * cut).astype(np.uint8), m, 1) for v, m in pairs[half]]
        return float(np.mean(found))

    _, cut, sign = max((score(False, cut, sign), cut, sign) for cut in cuts for sign in (1, -1))
    return score(True, cut, sign)


def test_without_a_folder_for_drafts_nothing_is_drawn(
    drawing: Recipe, pictures: list[Path], tmp_path: Path
) -> None:
    config = drawing.config(shape="32,32")
    with pytest.raises(ValueError, match="drafts"):
        drawing.run(pictures[:1], config, **{"drafts-path": str(tmp_path / "none")})


def write_weights(arrays: dict[str, Any], folder: Path) -> str:
    import hashlib

    from safetensors.torch import save

    data = save({name: value.contiguous() for name, value in arrays.items()})
    digest = hashlib.sha256(data).hexdigest()
    (folder / f"{digest}.safetensors").write_bytes(data)
    return digest


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format": "nrrd"}, "format"),
        ({"format": "nifti"}, "format"),
        ({"format": "png", "shape": "8,8,8"}, "format"),
        ({"kind": "photograph"}, "format"),
        ({"draft-label": "a/b"}, "draft-label"),
        ({"most": -1}, "most"),
    ],
)
def test_a_plan_of_drafts_that_doesnt_fit_names_its_key(
    drawing: Recipe, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        drawing.module("task").Plan.read(drawing.config(**changes))


def test_a_volumes_draft_lies_where_its_image_does() -> None:
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[2, 1, 3] = 1
    directions = np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
    image = Volume(labels.astype(np.float32), (5.0, 2.0, 1.5), (-10.0, 20.0, 30.0), directions)
    data = packed(labels, image)
    check_content(f"{'a' * 64}.nii.gz", data)
    raw = gzip.decompress(data)
    assert struct.unpack_from("<8h", raw, 40)[:4] == (3, 5, 4, 3)
    affine = np.array([struct.unpack_from("<4f", raw, 280 + 16 * axis) for axis in range(3)])
    # NIfTI counts from left to right and from back to front, DICOM the other way.
    x, y, z = affine @ [3, 1, 2, 1]
    assert (x, y, z) == (-(-10 + 3 * 1.5), -(20 + 1 * 2), 30 + 2 * 5)
    voxels = np.frombuffer(raw[352:], np.uint8)
    assert np.flatnonzero(voxels).tolist() == [3 + 5 * (1 + 4 * 2)]


def test_a_segmentation_is_read_as_it_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, (4, 6, 7)).astype(np.uint8)
    labels[1] = 0
    scans = series(rng.integers(0, 99, labels.shape), "s", thickness_mm=2.5, bits=8)
    rng.shuffle(scans)  # type: ignore[arg-type]
    assets = Release(write_release(tmp_path / "r", files=scans)).assets()
    data = segmentation(labels, assets, ["liver", "lesion"])
    assert data == segmentation(labels, assets, ["liver", "lesion"])
    told = pydicom.dcmread(io.BytesIO(data))
    assert [s.SegmentLabel for s in told.SegmentSequence] == ["liver", "lesion"]
    assert told.StudyInstanceUID == assets[0].study_uid
    row = {"sop_class_uid": SEGMENTATION}
    kept = write_release(tmp_path / "q", files=[File("s", data, ".dcm", row)])
    found = of_volume(Release(kept).assets(), pixels.volume(assets), 2)
    assert (found == labels).all()


# ---- cards ---------------------------------------------------------------------------------------


def test_the_cards_and_the_imports_are_whole(recipe: Recipe, drawing: Recipe) -> None:
    recipe.check_card(["eval_loss", "eval_dice", "train_loss", "num-examples"])
    drawing.check_card(["drafts", "empty", "num-examples"])
    recipe.check_imports()
    drawing.check_imports()


@pytest.mark.slow
@pytest.mark.skipif(
    not any(BUSI.glob("*/*_mask.png")), reason="needs the breast ultrasound images with masks"
)
def test_lesions_of_the_breast_are_outlined(recipe: Recipe, tmp_path: Path) -> None:
    from PIL import Image

    pairs: dict[int, list[tuple[list[File], list[File]]]] = {0: [], 1: []}
    for number, path in enumerate(sorted(BUSI.glob("*/*_mask.png"))):
        image = path.with_name(path.name.replace("_mask", ""))
        if not image.exists() or "normal" in path.parts:
            continue
        picture, mask = (np.asarray(Image.open(p).convert("L")) for p in (image, path))
        pairs[number % 2].append(
            ([photograph(picture, f"p{number}")], [photograph(mask, f"p{number}")])
        )
    folders = [release(tmp_path / str(site), some) for site, some in pairs.items()]
    config = recipe.config(
        **(SETTINGS | {"shape": "64,64", "widths": "16,32,64,128", "num-server-rounds": 8})
    )
    assert recipe.run(folders, config).mean("eval_dice") > 0.3
