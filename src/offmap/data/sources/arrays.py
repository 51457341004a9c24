"""Arrays of pixels: .npy, .npz, and SVHN's .mat."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from jaxtyping import UInt8
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from offmap._utils.files import reason_of
from offmap.data._decode import Item
from offmap.data._labels import as_labels
from offmap.data.sources import Source
from offmap.data.types import Labels
from offmap.errors import DataError

# What readers of arrays raise on files that are none.
UNREADABLE = (
    OSError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    NotImplementedError,
    BadZipFile,
    TokenError,
    zlib.error,
)
_KEYS = (("images", "labels"), ("x", "y"), ("data", "labels"))


@dataclass(frozen=True, eq=False)
class Arrays(Source):
    """Pixels in memory, or in a mapped file.

    Args:
        where: names their place in messages.
        images: each ``(h, w)`` or ``(h, w, 3)``.
        labels: a class index for each.
        classes: name of each class.
    """

    where: str
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
    labels: Labels = None
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, images: NDArray[Any], labels: NDArray[Any] | None, where: str) -> Self:
        """Any of the layouts that :func:`as_pixels` knows."""
        pixels = as_pixels(images, where)
        return cls(where, pixels, *((None, ()) if labels is None else as_labels(labels, where)))

    @classmethod
    def npy(cls, path: Path) -> Self:
        """Images only; the file is mapped, not read."""
        with _reading(path):
            images = open_memmap(path, mode="r")
        return cls.of(images, None, str(path))

    @classmethod
    def npz(cls, path: Path) -> Self:
        """Images and, if there, labels, under one of the pairs of keys in use."""
        # NumPy leaves a file open that it cannot read.
        with _reading(path), path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        for images, labels in _KEYS:
            if images in arrays:
                return cls.of(arrays[images], arrays.get(labels), str(path))
        raise _no_keys(path, " or ".join("/".join(pair) for pair in _KEYS), arrays)

    @classmethod
    def mat(cls, path: Path) -> Self:
        """SVHN's cropped digits: X is ``(h, w, c, n)``, and in y a 10 stands for the digit 0."""
        from scipy.io import loadmat  # here: it takes a fifth of a second
        from scipy.io.matlab import MatReadError

        with _reading(path, (*UNREADABLE, MatReadError)):
            arrays = loadmat(path)
        if not {"X", "y"} <= arrays.keys():
            raise _no_keys(path, "X and y", arrays)
        return cls.of(np.moveaxis(arrays["X"], -1, 0), arrays["y"] % 10, str(path))

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: Iterable[int]) -> Iterator[Item]:
        """Views of the array."""
        return ((f"{self.where} item {row}", np.asarray(self.images[row])) for row in rows)


def as_pixels(images: NDArray[Any], where: str) -> UInt8[np.ndarray, "n h w *c"]:
    """Grey as ``(n, h, w)``, colour as ``(n, h, w, 3)``.

    Read are ``(n, h, w)``, ``(n, h, w, c)`` and ``(n, c, h, w)``, where c is 1 or 3. Where both
    the last and the second axis could be channels, the last is.

    Raises:
        DataError: another type or shape.
    """
    if images.dtype != np.uint8:
        raise DataError(
            f"{where} holds {images.dtype}; pixels must be uint8, 0 to 255. Convert values in "
            "[0, 1] by (255 * x).round().astype('uint8')"
        )
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images[..., 0] if images.shape[3] == 1 else images
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, -1)
    # (h, w, 3) is one colour image far more often than many grey ones three pixels wide.
    if images.ndim != 3 or images.shape[2] in (1, 3):
        raise DataError(
            f"{where} has shape {images.shape}; images must be (n, h, w), (n, h, w, c) or "
            "(n, c, h, w) with c 1 or 3; for a single image put an axis of length 1 in front"
        )
    return images


@contextmanager
def _reading(path: Path, errors: tuple[type[Exception], ...] = UNREADABLE) -> Iterator[None]:
    """Read a file; these errors say that it holds no plain arrays."""
    try:
        yield
    except errors as error:
        raise DataError(
            f"{path} cannot be read as plain arrays, and pickled ones are refused: "
            f"{reason_of(error)}"
        ) from error


def _no_keys(path: Path, expected: str, arrays: Mapping[str, object]) -> DataError:
    names = ", ".join(name for name in arrays if not name.startswith("__"))
    return DataError(f"{path} must hold {expected}; seen {names or 'nothing'}")
