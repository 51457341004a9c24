"""Small sets inside the wheels of scikit-learn and, for pictures, of scikit-image: no network."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from io import BytesIO

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from offmap._utils.arguments import did_you_mean
from offmap._utils.pictures import count_channels
from offmap.data._image_set import ImageSet
from offmap.data._own_transform import OwnTransform
from offmap.data._preprocessing import as_size
from offmap.data._streamed_set import StreamedSet
from offmap.data.sources.arrays import Arrays
from offmap.data.types import Resize
from offmap.errors import ArgumentError, MissingExtraError, UnknownNameError

_PICTURES = {
    "brick": ("brick.png",),
    "grass": ("grass.png",),
    "gravel": ("gravel.png",),
    "photographs": (
        "astronaut.png",
        "camera.png",
        "chelsea.png",
        "china.jpg",
        "coffee.png",
        "coins.png",
        "flower.jpg",
        "moon.png",
        "rocket.jpg",
    ),
    "text": ("page.png", "text.png"),
    "textures": ("brick.png", "grass.png", "gravel.png"),
}
_OF_SKLEARN = ("china.jpg", "flower.jpg")
EMBEDDED = tuple(sorted({"digits", "faces", *_PICTURES}))

_PATCH = 32  # pixels a side that a patch shows, about: fewer show no texture
_FACES = 100


def embedded(
    name: str,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = 1,
    limit: int | None = None,
    seed: int = 0,
    resize: Resize = "crop",
    own: OwnTransform | None = None,
) -> ImageSet:
    """One of the sets in ``EMBEDDED``.

    * ``digits``: 1797 handwritten digits, 8x8, ten classes (UCI).
    * ``faces``: 100 faces, 25x25, without labels (from LFW).
    * ``brick``, ``grass``, ``gravel``, and the three as ``textures``; ``photographs``; ``text``:
      larger pictures cut into patches that do not overlap, one class a picture. A patch shows about
      32 pixels a side even where ``size`` is smaller: patches for 8x8 are cut at 32x32 and shrunk.

    Args:
        name: which.
        size: as in ``load``; without it, digits and faces stay as stored and patches are 32x32.
        channels: 1 grey, 3 colour, ``None`` as stored.
        limit: how many at most, chosen by ``seed``.
        seed: chooses which.
        resize: "crop" or "squash", as in ``load``.
        own: a function in the place of these, as ``load`` makes of ``transform``.

    Raises:
        UnknownNameError: no such set.
        ArgumentError: patches of that size are larger than the pictures.
        MissingExtraError: for all but the digits, scikit-image is not installed.
    """
    if name not in EMBEDDED:
        hint = did_you_mean(name, EMBEDDED)
        raise UnknownNameError(f"no embedded set {name!r}: {hint}there are {', '.join(EMBEDDED)}")
    where, before = f"embedded:{name}", ""
    if name in _PICTURES:
        h, w = _patch(as_size(size) or (_PATCH, _PATCH))
        source, before = _patches(where, _PICTURES[name], h, w), f"patches of {h}x{w}; "
    else:
        source = _digits(where) if name == "digits" else _faces(where)
    images = StreamedSet.of(
        source,
        where,
        size=size,
        channels=channels,
        limit=limit,
        seed=seed,
        resize=resize,
        own=own,
        before=before,
    )
    return images.hold()


def _digits(where: str) -> Arrays:
    from sklearn.datasets import load_digits  # here: it takes a second

    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)
    return Arrays(where, images, torch.from_numpy(digits.target).long(), tuple("0123456789"))


def _faces(where: str) -> Arrays:
    file = BytesIO(_package_file("skimage", "data", "lfw_subset.npy"))
    faces = np.load(file, allow_pickle=False)[:_FACES]  # the other half shows no faces
    return Arrays(where, (faces * 255).round().astype(np.uint8))


def _patch(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width to cut: a multiple of ``size``, so that it only has to be shrunk."""
    times = max(1, round(_PATCH / min(size)))
    return size[0] * times, size[1] * times


def _patches(where: str, names: tuple[str, ...], h: int, w: int) -> Arrays:
    patches = []
    for name in names:
        folder = ("sklearn", "datasets", "images") if name in _OF_SKLEARN else ("skimage", "data")
        with Image.open(BytesIO(_package_file(*folder, name))) as image:
            picture = np.asarray(image.convert("L" if count_channels(image) == 1 else "RGB"))
        patches.append(list(_tiles(picture, h, w)))
    counts = torch.tensor([len(tiles) for tiles in patches], device="cpu")
    labels = torch.arange(len(names), device="cpu").repeat_interleave(counts)
    classes = tuple(name.partition(".")[0] for name in names)
    if not counts.sum():
        raise ArgumentError(f"no picture of {where} is as large as {h}x{w}: ask for a smaller size")
    return Arrays(where, [tile for tiles in patches for tile in tiles], labels, classes)


def _tiles(
    picture: UInt8[np.ndarray, "H W *c"], h: int, w: int
) -> Iterator[UInt8[np.ndarray, "h w *c"]]:
    for top in range(0, picture.shape[0] - h + 1, h):
        for left in range(0, picture.shape[1] - w + 1, w):
            yield picture[top : top + h, left : left + w]


def _package_file(package: str, *path: str) -> bytes:
    try:
        folder = files(package)
    except ModuleNotFoundError as error:
        raise MissingExtraError("scikit-image", "pictures") from error
    # As a file, not through skimage.data, which downloads what it does not find.
    return folder.joinpath(*path).read_bytes()
