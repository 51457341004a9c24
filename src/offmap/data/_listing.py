"""Images by path, with a place for each one that cannot be read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from glob import iglob
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from offmap.data._decode import Item, Skipped, decode_all
from offmap.data._fit import Fit
from offmap.data._folder import images_under
from offmap.data._parquet import Parquet
from offmap.errors import ArgumentError, DataNotFoundError

Read = tuple[str, UInt8[Tensor, "c h w"] | Skipped]


def read_images(
    inputs: Iterable[str], shape: tuple[int, int, int], *, passed: Iterable[str] = ()
) -> Iterator[Read]:
    """Each image with its name, in a fixed order, decoded in threads and in bounded memory.

    Args:
        inputs: image files, folders (searched through, hidden files passed over), glob patterns,
            Parquet files, or ``-`` for paths on standard input, one a line.
        shape: channels, height and width to bring every image to.
        passed: names of the first images, which are passed over without decoding them.

    Returns:
        Name and image, or name and why it could not be read.

    Raises:
        DataNotFoundError: an input is not there, or a pattern matches nothing.
        ArgumentError: the first images are others than those to be passed over.
    """
    channels, height, width = shape
    items = _items(inputs)
    for i, name in enumerate(passed):
        if (seen := next(items, ("missing",))[0]) != name:
            raise ArgumentError(f"image {i} was {name}, and is {seen} now: these are other images")
    names: list[str] = []

    def noted() -> Iterator[Item]:
        for item in items:
            names.append(item[0])
            yield item

    with closing(decode_all(noted(), Fit(channels, (height, width)))) as decoded:
        for found in decoded:
            name = names.pop(0)
            yield name, found if isinstance(found, Skipped) else torch.tensor(found)


def _items(inputs: Iterable[str]) -> Iterator[Item]:
    for given in inputs:
        if given == "-":
            yield from ((line, Path(line)) for line in map(str.strip, sys.stdin) if line)
        elif (path := Path(given).expanduser()).is_dir():
            yield from ((str(found), found) for found in images_under(path))
        elif path.suffix == ".parquet" and path.is_file():
            source = Parquet.open(path, labelled=False)
            yield from source.read(range(len(source)))
        elif path.is_file():
            yield given, path
        else:
            yield from _matching(given)


def check_inputs(inputs: Iterable[str]) -> None:
    """Refuse what :func:`read_images` would not find, before anything is read.

    Raises:
        DataNotFoundError: an input is not there, or a pattern matches nothing.
    """
    for given in inputs:
        if given != "-" and not Path(given).expanduser().exists():
            _matches(given)


def _matches(pattern: str) -> list[str]:
    found = sorted(iglob(str(Path(pattern).expanduser()), recursive=True))
    if not found:
        raise DataNotFoundError(f"{pattern} is no file or folder, and matches none")
    return found


def _matching(pattern: str) -> Iterator[Item]:
    for found in _matches(pattern):
        if Path(found).is_file() or Path(found).is_dir():
            yield from _items([found])
        else:  # a link to nowhere, or a device, which is not waited for
            yield found, None
