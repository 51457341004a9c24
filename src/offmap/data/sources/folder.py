"""A folder of images, and what else lies in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from offmap._utils.files import as_text
from offmap.data._decode import Item, Skipped, count_channels_of
from offmap.data._left_out import HIDDEN, LEADS_BACK, NO_SUFFIX, UNREAD, skipped_in_words
from offmap.data.sources import Source
from offmap.data.types import Labels
from offmap.errors import DataError

SUFFIXES = frozenset(
    {".apng", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm"}
    | {".ppm", ".tif", ".tiff", ".webp"}
)
_SPLITS = frozenset({"test", "testing", "train", "training", "val", "valid", "validation"})

# What systems and tools leave behind, in lower case: macOS, Synology, QNAP, Windows, ext4, Python.
_SYSTEM = frozenset(
    {"__macosx", "@eadir", "@tmp", "#recycle", "#snapshot", "@__thumb", "@recycle"}
    | {"$recycle.bin", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"}
    | {"lost+found", "__pycache__"}
)


@dataclass(frozen=True, eq=False)
class Folder(Source):
    """Image files: class by class, or flat and without labels."""

    root: Path
    paths: tuple[Path, ...]
    labels: Labels
    classes: tuple[str, ...]
    left_out: tuple[Skipped, ...] = ()

    @classmethod
    def scan(cls, root: Path) -> Self:
        """The images under ``root``; hidden files and folders are left out.

        Every visible subfolder is a class, even one without images, which is told: the labels of
        another split of the same data would shift otherwise.

        Raises:
            DataError: no images, images beside folders of images, or a folder of splits.
        """
        paths, subfolders, left_out = search(root)
        if not paths:
            parquet = any(root.rglob("*.parquet"))
            hint = f" (it has Parquet files: write hf:{root})" if parquet else ""
            message = f"{root} holds no images{hint}: looked for {', '.join(sorted(SUFFIXES))}"
            reasons = skipped_in_words(str(root), (), left_out)
            raise DataError(f"{message}; {reasons}" if reasons else message)
        below = [path.relative_to(root).parent.parts for path in paths if path.parent != root]
        labels, classes = labels_of(below, len(paths), subfolders, str(root))
        folders = {parts[0] for parts in below}
        left_out += tuple(
            Skipped(str(root / name), "a class folder without images")
            for name in sorted(set(classes).difference(folders))
        )
        return cls(root, paths, labels, tuple(map(as_text, classes)), left_out)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, rows: Iterable[int]) -> Iterator[Item]:
        """Paths only: the threads that decode also read."""
        return ((str(self.paths[row]), self.paths[row]) for row in rows)

    def keys(self, rows: Iterable[int]) -> tuple[str, ...]:
        """Paths below the root."""
        return tuple(self.paths[row].relative_to(self.root).as_posix() for row in rows)


def search(root: Path) -> tuple[tuple[Path, ...], tuple[str, ...], tuple[Skipped, ...]]:
    """The images in a folder and below, sorted; its visible subfolders; and what is left out.

    Hidden and system folders are left out as wholes; files are, if they are hidden, links to
    nowhere, or no images by their suffix or, without one, by their content.
    """
    images: list[Path] = []
    subfolders: tuple[str, ...] | None = None
    left_out: list[Skipped] = []
    ancestors: dict[str, set[str]] = {}  # what a folder lies in: a link may lead back there

    def refuse(path: str | os.PathLike[str], reason: str) -> None:
        left_out.append(Skipped(os.fspath(path), reason))

    def shut(error: OSError) -> None:
        refuse(error.filename, f"a folder that cannot be entered: {error.strerror}")

    walk = os.walk(root, followlinks=True, onerror=shut)
    for parent, folders, files in walk:
        lineage = {*ancestors.pop(parent, ()), os.path.realpath(parent)}
        entries = {name: os.path.join(parent, name) for name in folders}
        folders.clear()  # os.walk goes into those that stand here
        for name, path in entries.items():
            if is_system(name):
                refuse(path, HIDDEN)
            elif os.path.realpath(path) in lineage:
                refuse(path, LEADS_BACK)
            else:
                folders.append(name)
                ancestors[path] = lineage
        subfolders = tuple(sorted(folders)) if subfolders is None else subfolders
        for file in (Path(parent, name) for name in files):
            if reason := _why_no_image(file):
                refuse(file, reason)
            else:
                images.append(file)
    left_out.sort(key=lambda skipped: skipped.path)
    return tuple(sorted(images)), subfolders or (), tuple(left_out)


def _why_no_image(path: Path) -> str | None:
    if is_system(path.name):
        return HIDDEN
    if not path.is_file():
        return "a link that leads nowhere" if path.is_symlink() else "neither file nor folder"
    if path.suffix.lower() in SUFFIXES:
        return None
    unreadable = isinstance(count_channels_of((str(path), path)), Skipped)
    if not path.suffix:
        return NO_SUFFIX if unreadable else None
    # Not a sample: a file with another suffix may be an older copy of one that is here.
    return f"{UNREAD} {path.suffix}" if unreadable else "an image under a suffix of none: rename it"


def is_system(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by a system."""
    return name.startswith(".") or name.lower() in _SYSTEM


def labels_of(
    below: Sequence[Sequence[str]], count: int, subfolders: Sequence[str], root: str
) -> tuple[Labels, tuple[str, ...]]:
    """Labels by the folder of each image, and the classes; none where all lie in the root.

    Args:
        below: the folders from the root to each image that does not lie in it.
        count: of all images.
        subfolders: of the root, sorted, those without images too.
        root: for messages.
    """
    if not below:
        return None, ()
    if count > len(below):
        raise DataError(
            f"{root} holds {count - len(below)} images beside {len(subfolders)} folders of "
            "images: give each class a folder, or keep all images in one"
        )
    # Folders without images, such as notes, do not count: those with images may be splits.
    inside: dict[str, set[str]] = {}
    for first, *deeper in below:
        inside.setdefault(first, set()).update(deeper[:1])
    # Splits of one data set by their names, or by classes that they share: train may be a class
    # beside bus, and hold folders; what it holds is then of its own.
    splits = {name for name in inside if name.lower() in _SPLITS}
    classes = set[str]().union(*(inside[name] for name in inside if name not in splits))
    if len(splits) == len(inside) or any(len(inside[name] & classes) > 1 for name in splits):
        folders = sorted(inside)
        raise DataError(
            f"the folders of images in {root} are splits, not classes: {', '.join(folders)}; "
            f"give the path of one, such as {root.rstrip('/')}/{folders[0]}"
        )
    number = {name: label for label, name in enumerate(subfolders)}
    return torch.tensor([number[first] for first, *_ in below], device="cpu"), tuple(subfolders)
