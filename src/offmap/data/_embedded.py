"""Small sets inside the wheels of scikit-learn and, for pictures, of scikit-image: no network."""

from __future__ import annotations

from importlib.resources import files
from io import BytesIO

import numpy as np
import torch
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
        sides = as_size(size) or (_PATCH, _PATCH)
        times = max(1, round(_PATCH / min(sides)))  # whole, so that a patch is only shrunk
        h, w = (side * times for side in sides)
        source, before = _patches(where, _PICTURES[name], h, w), f"patches of {h}x{w}; "
    elif name == "digits":
        from sklearn.datasets import load_digits  # here: it takes a second

        digits = load_digits()
        pixels = (digits.images * 255 / 16).round().astype(np.uint8)
        labels = torch.from_numpy(digits.target).long()
        source = Arrays(where, pixels, labels, tuple("0123456789"))
    else:
        file = BytesIO(_package_file("skimage", "data", "lfw_subset.npy"))
        faces = np.load(file, allow_pickle=False)[:_FACES]  # the other half shows no faces
        source = Arrays(where, (faces * 255).round().astype(np.uint8))
    images = StreamedSet.of(
        source, where, size=size, channels=channels, limit=limit, seed=seed, resize=resize, own=own,
        before=before,
    )  # fmt: skip
    return images.hold()


def _patches(where: str, names: tuple[str, ...], h: int, w: int) -> Arrays:
    patches = []
    for name in names:
        folder = ("sklearn", "datasets", "images") if name in _OF_SKLEARN else ("skimage", "data")
        with Image.open(BytesIO(_package_file(*folder, name))) as image:
            picture = np.asarray(image.convert("L" if count_channels(image) == 1 else "RGB"))
        tops, lefts = (range(0, n - m + 1, m) for n, m in zip(picture.shape, (h, w), strict=False))
        patches.append([picture[i : i + h, j : j + w] for i in tops for j in lefts])
    counts = torch.tensor([len(tiles) for tiles in patches], device="cpu")
    labels = torch.arange(len(names), device="cpu").repeat_interleave(counts)
    classes = tuple(name.partition(".")[0] for name in names)
    if not counts.sum():
        raise ArgumentError(f"no picture of {where} is as large as {h}x{w}: ask for a smaller size")
    return Arrays(where, [tile for tiles in patches for tile in tiles], labels, classes)


def _package_file(package: str, *path: str) -> bytes:
    try:
        folder = files(package)
    except ModuleNotFoundError as error:
        raise MissingExtraError("scikit-image", "pictures") from error
    # As a file, not through skimage.data, which downloads what it does not find.
    return folder.joinpath(*path).read_bytes()
