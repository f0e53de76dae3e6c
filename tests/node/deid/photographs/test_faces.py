"""Faces: found as dermatology shows them, and not seen where there are none."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from node.deid.photographs import clean_photograph
from node.deid.photographs.faces import Face, find_faces
from node.deid.pixels.image import Box
from node.deid.reading import Unsafe
from tests.examples import examples

from .conftest import Array

FACES = {
    "astronaut.png": Box(175, 65, 270, 175),
    "grace_hopper.jpg": Box(165, 115, 355, 350),
}
"""From the brow to the chin, by eye."""
NO_FACES = (
    *("ihc.png", "retina.jpg", "cell.png", "moon.png", "coffee.png", "brick.png", "grass.png"),
    *("gravel.png", "coins.png", "hubble_deep_field.jpg", "rocket.jpg", "text.png", "page.png"),
    *("phantom.png", "microaneurysms.png", "motorcycle_left.png", "clock_motion.png"),
)


def rgb(data: bytes) -> Array:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def covers(faces: tuple[Face, ...], face: Box) -> bool:
    """Whether one that is certain holds at least nine tenths of the face."""
    return any(one.certain and one.box.meet(face).area >= 0.9 * face.area for one in faces)


@pytest.mark.parametrize("name", FACES)
def test_a_face_is_found_whole(packaged: Callable[[str], bytes], name: str) -> None:
    found = find_faces(rgb(packaged(name)))
    assert len(found) == 1 and covers(found, FACES[name])
    assert found[0].box.area < 3 * FACES[name].area


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_face_on_its_side_or_head_is_found_in_its_place(
    packaged: Callable[[str], bytes], name: str, turns: int
) -> None:
    picture = rgb(packaged(name))
    where = np.zeros(picture.shape[:2], bool)
    face = FACES[name]
    where[face.y0 : face.y1, face.x0 : face.x1] = True
    rows, columns = np.nonzero(np.rot90(where, turns))
    turned = Box(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    assert covers(find_faces(np.ascontiguousarray(np.rot90(picture, turns))), turned)


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize("angle", [20, 45, 70])
def test_a_tilted_face_is_found(packaged: Callable[[str], bytes], name: str, angle: int) -> None:
    tilted = Image.fromarray(rgb(packaged(name))).rotate(angle, expand=True)
    assert find_faces(np.asarray(tilted))


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize(
    "part",
    [
        pytest.param((0, 0, 1, 1), id="face without margin"),
        pytest.param((-0.1, 0.15, 1.1, 0.5), id="both eyes"),
        pytest.param((-0.1, 0.15, 1.1, 0.75), id="eyes and nose"),
        pytest.param((0, 0, 0.5, 1), id="one half"),
        pytest.param((0.5, 0, 1, 1), id="other half"),
        pytest.param((0, 0.5, 1, 1.15), id="nose and mouth"),
        pytest.param((0, 0.2, 0.65, 0.75), id="eye, nose and cheek"),
    ],
)
def test_a_crop_that_shows_part_of_a_face_is_found(
    packaged: Callable[[str], bytes], name: str, part: tuple[float, float, float, float]
) -> None:
    face = FACES[name]
    picture = Image.fromarray(rgb(packaged(name)))
    crop = picture.crop(
        (
            round(face.x0 + part[0] * face.width),
            round(face.y0 + part[1] * face.height),
            round(face.x0 + part[2] * face.width),
            round(face.y0 + part[3] * face.height),
        )
    )
    for times in (1, 5)[: examples(1, 2)]:
        assert find_faces(np.asarray(crop.resize((crop.width * times, crop.height * times))))


@pytest.mark.parametrize("side", [64, 128, 2000, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_face_is_found_at_any_size_of_the_picture(
    packaged: Callable[[str], bytes], side: int
) -> None:
    picture = Image.fromarray(rgb(packaged("astronaut.png")))
    assert find_faces(np.asarray(picture.resize((side, side))))


def test_a_small_face_in_the_corner_of_a_large_picture_is_found(
    packaged: Callable[[str], bytes],
) -> None:
    room = np.full((1500, 2000, 3), 150, np.uint8)
    room[1244:, 1744:] = rgb(packaged("astronaut.png"))[::2, ::2]
    found = find_faces(room)
    assert covers(found, Box(1744 + 88, 1244 + 32, 1744 + 135, 1244 + 87))


def test_no_face_is_seen_where_there_is_none(packaged: Callable[[str], bytes]) -> None:
    assert [name for name in NO_FACES[: examples(6, 17)] if find_faces(rgb(packaged(name)))] == []


def lesion(seed: int, spots: int) -> Array:
    """A dermoscopy-like picture: irregular dark spots on skin, hairs, a dark round margin."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:300, 0:400].astype(np.float64)
    depth = np.zeros((300, 400))
    for _ in range(spots):
        y, x = random.normal(150, 15), random.normal(200, 20)
        size = random.uniform(50, 95)
        if spots > 1:
            y, x, size = random.uniform(40, 260), random.uniform(40, 360), random.uniform(6, 30)
        angle = np.arctan2(rows - y, columns - x)
        edge = size * (1 + 0.1 * np.sin(random.integers(2, 7) * angle + random.uniform(0, 6)))
        depth += 1 / (1 + np.exp((np.hypot(rows - y, columns - x) - edge) / random.uniform(2, 8)))
    for _ in range(random.integers(0, 10)):
        y, x, bend = random.uniform(0, 300), random.uniform(0, 400), random.uniform(-1, 1)
        depth += 0.5 * (np.abs(rows - y - bend * (columns - x)) < 1.5)
    skin = np.array([214.0, 168.0, 146.0]) - depth.clip(0, 1.5)[..., None] * [90, 100, 95]
    skin += random.normal(0, 6, skin.shape)
    skin[np.hypot(rows - 150, columns - 200) > 190] *= 0.1
    return skin.clip(0, 255).astype(np.uint8)


def test_no_face_is_seen_in_a_lesion() -> None:
    assert [seed for seed in range(examples(8, 20)) if find_faces(lesion(seed, 1))] == []


def test_spots_that_may_be_a_face_are_kept_for_a_persons_look_and_not_masked() -> None:
    picture = next(
        picture
        for picture in (lesion(seed, 5) for seed in range(40))
        if (seen := find_faces(picture)) and not any(face.certain for face in seen)
    )
    target = io.BytesIO()
    Image.fromarray(picture).save(target, "PNG")
    with pytest.raises(Unsafe) as refused:
        clean_photograph(target.getvalue(), faces="mask", matcher=None, text=False)
    assert refused.value.reason == "possible-face"


def test_a_face_is_blacked_out_and_every_other_pixel_stays(
    packaged: Callable[[str], bytes],
) -> None:
    for name, face in FACES.items():
        data = packaged(name)
        before = rgb(data)
        done = clean_photograph(data, faces="mask", matcher=None, text=False)
        after = rgb(done.data)
        assert done.format == "png"
        assert max(box.meet(face).area for box in done.faces) >= 0.9 * face.area
        inside = np.zeros(before.shape[:2], bool)
        for box in done.masked:
            inside[box.y0 : box.y1, box.x0 : box.x1] = True
        assert (after[inside] == 0).all()
        assert np.array_equal(after[~inside], before[~inside])
        assert find_faces(after) == ()


def test_consent_decides_what_becomes_of_a_face(packaged: Callable[[str], bytes]) -> None:
    data = packaged("grace_hopper.jpg")
    with pytest.raises(Unsafe) as refused:
        clean_photograph(data, faces="quarantine", matcher=None, text=False)
    assert refused.value.reason == "face"
    kept = clean_photograph(data, faces="keep", matcher=None, text=False)
    assert kept.format == "jpeg" and kept.faces == ()
    assert np.array_equal(rgb(kept.data), rgb(data))


@pytest.mark.parametrize("form", ["L", "RGBA", "P", "tiff", "16 bits", "transparent"])
def test_a_face_is_masked_in_pictures_of_every_kind(
    packaged: Callable[[str], bytes], form: str
) -> None:
    import tifffile

    picture = Image.open(io.BytesIO(packaged("astronaut.png"))).convert("RGB").resize((256, 256))
    target = io.BytesIO()
    if form == "tiff":
        picture.save(target, "TIFF")
    elif form == "16 bits":
        tifffile.imwrite(target, np.asarray(picture).astype(np.uint16) * 200, photometric="rgb")
    elif form == "transparent":
        picture.putalpha(0)
        picture.save(target, "PNG")
    else:
        picture.convert(form).save(target, "PNG")
    done = clean_photograph(target.getvalue(), faces="mask", matcher=None, text=False)
    assert done.faces
    before, after = (
        np.asarray(
            tifffile.imread(io.BytesIO(data))
            if done.format == "tiff"
            else Image.open(io.BytesIO(data)).convert("RGBA")
        )
        for data in (target.getvalue(), done.data)
    )
    inside = np.zeros((256, 256), bool)
    for box in done.faces:
        inside[box.y0 : box.y1, box.x0 : box.x1] = True
    assert np.array_equal(before[~inside], after[~inside])
    assert (after[inside][:, :3] == 0).all()
