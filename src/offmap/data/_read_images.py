"""Images by path, with a place for each one that cannot be read."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from glob import has_magic, iglob
from pathlib import Path

import torch
from torch import Tensor

from offmap._utils.arguments import does_not_exist
from offmap.data._decode import Item, Skipped, decode_all
from offmap.data._own_transform import OwnTransform
from offmap.data._preprocessing import Preprocessing
from offmap.data.sources.folder import search
from offmap.data.sources.parquet import Parquet
from offmap.data.types import Resize
from offmap.errors import ArgumentError, DataNotFoundError


def read_images(
    inputs: Iterable[str],
    shape: tuple[int, int, int],
    *,
    passed: Iterable[str] = (),
    resize: Resize = "crop",
    own: OwnTransform | None = None,
    left_out: list[Skipped] | None = None,
) -> Iterator[tuple[str, Tensor | Skipped]]:
    """Each image with its name, in a fixed order, decoded in threads and in bounded memory.

    Args:
        inputs: image files, folders (searched through, hidden files passed over), glob patterns,
            Parquet files, or ``-`` for paths on standard input, one a line.
        shape: channels, height and width to bring every image to.
        passed: names of the first images, which are passed over without decoding them.
        resize: "crop" or "squash", as for :func:`load`.
        own: a function that makes the images, in the place of these.
        left_out: a list that gets what lies in the folders and is no image, with the reason.

    Returns:
        Name and image, or name and why it could not be read.

    Raises:
        DataNotFoundError: an input is not there, or a pattern matches nothing.
        ArgumentError: the first images are others than those to be passed over.
    """
    channels, height, width = shape
    preprocessing = own or Preprocessing(channels, (height, width), resize)
    items = _items(inputs, [] if left_out is None else left_out)
    for i, name in enumerate(passed):
        if (seen := next(items, ("missing",))[0]) != name:
            raise ArgumentError(f"image {i} was {name}, and is {seen} now: these are other images")
    names: deque[str] = deque()

    def noted() -> Iterator[Item]:
        for item in items:
            names.append(item[0])
            yield item

    with closing(decode_all(noted(), preprocessing)) as decoded:
        for image in decoded:
            name = names.popleft()
            if isinstance(image, Skipped):
                yield name, image
            elif image.shape != shape:
                yield name, Skipped(name, f"{own} made {image.shape} of it, and not {shape}")
            else:
                yield name, torch.tensor(image)


def check_inputs(inputs: Iterable[str]) -> None:
    """Refuse what :func:`read_images` would not find, before anything is read.

    Raises:
        DataNotFoundError: an input is not there, or a pattern matches nothing.
    """
    for spec in inputs:
        if spec != "-" and not Path(spec).expanduser().exists():
            _matches(spec)


def _items(inputs: Iterable[str], left_out: list[Skipped]) -> Iterator[Item]:
    for spec in inputs:
        if spec == "-":
            yield from ((line, Path(line)) for line in map(str.strip, sys.stdin) if line)
        elif (path := Path(spec).expanduser()).is_dir():
            images, _, others = search(path)
            left_out += others
            yield from ((str(image), image) for image in images)
        elif path.suffix == ".parquet" and path.is_file():
            source = Parquet.open(path, labelled=False)
            yield from source.read(range(len(source)))
        elif path.is_file():
            yield spec, path
        else:
            for match in _matches(spec):
                if Path(match).is_file() or Path(match).is_dir():
                    yield from _items([match], left_out)
                else:  # a link to nowhere, or a device, which is not waited for
                    yield match, None


def _matches(pattern: str) -> list[str]:
    matches = sorted(iglob(str(Path(pattern).expanduser()), recursive=True))
    if not matches:
        if not has_magic(pattern):
            missing = does_not_exist(Path(pattern).expanduser())
            raise DataNotFoundError(f"{missing}give files, folders or patterns that are there")
        raise DataNotFoundError(f"{pattern} is no file or folder, and matches none")
    return matches
