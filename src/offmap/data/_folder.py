"""A folder of images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Int64
from torch import Tensor

from offmap.data._decode import Item
from offmap.errors import DataError

_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jfif", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_SPLITS = frozenset({"test", "testing", "train", "training", "val", "valid", "validation"})


@dataclass(frozen=True, eq=False)
class Folder:
    """Image files: class by class, or flat and without labels."""

    paths: tuple[Path, ...]
    labels: Int64[Tensor, " n"] | None
    classes: tuple[str, ...]

    @classmethod
    def scan(cls, root: Path) -> Self:
        """The images under ``root``; hidden files and folders are passed over.

        Every visible subfolder is a class, even one without images: the labels of another split
        of the same data would shift otherwise.

        Raises:
            DataError: no images, images beside folders of images, or a folder of splits.
        """
        folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
        inside = [images_under(folder) for folder in folders]
        flat = sorted(p for p in root.iterdir() if _is_image(p))
        if not flat and not any(inside):
            raise _no_images(root)
        if not any(inside):
            return cls(tuple(flat), None, ())
        classes = tuple(folder.name for folder in folders)
        _check_layout(root, flat, classes)
        counts = torch.tensor([len(paths) for paths in inside])
        labels = torch.arange(len(classes)).repeat_interleave(counts)
        return cls(tuple(path for paths in inside for path in paths), labels, classes)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, rows: Iterable[int]) -> Iterator[Item]:
        """Paths only: the threads that decode also read."""
        return ((str(self.paths[row]), self.paths[row]) for row in rows)


def images_under(folder: Path) -> list[Path]:
    """The image files in a folder and below, sorted; hidden ones are passed over."""
    found: list[Path] = []
    above: dict[str, set[str]] = {}  # what a folder lies in: a link may lead back there
    for parent, folders, files in os.walk(folder, followlinks=True):
        inside = {*above.pop(parent, ()), os.path.realpath(parent)}
        below = {name: os.path.join(parent, name) for name in folders if not name.startswith(".")}
        folders[:] = [name for name, path in below.items() if os.path.realpath(path) not in inside]
        above |= {below[name]: inside for name in folders}
        found += (path for name in files if _is_image(path := Path(parent, name)))
    return sorted(found)


def _is_image(path: Path) -> bool:
    visible = not path.name.startswith(".")
    return visible and path.suffix.lower() in _SUFFIXES and path.is_file()


def _check_layout(root: Path, flat: list[Path], classes: tuple[str, ...]) -> None:
    if flat:
        raise DataError(
            f"{root} holds {len(flat)} images beside {len(classes)} folders of images: "
            "give each class a folder, or keep all images in one"
        )
    if _SPLITS.issuperset(map(str.lower, classes)):
        raise DataError(
            f"the folders in {root} are splits, not classes: {', '.join(classes)}; "
            f"give the path of one, such as {root / classes[0]}"
        )


def _no_images(root: Path) -> DataError:
    parquet = f" (it has Parquet files: write hf:{root})" if any(root.rglob("*.parquet")) else ""
    kinds = ", ".join(sorted(_SUFFIXES))
    return DataError(f"{root} holds no images{parquet}: looked for {kinds}")
