"""Encoded images to arrays: the header alone, or all of it, in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from offmap._utils.addresses import Remote
from offmap._utils.pictures import count_channels, shape_of
from offmap.data._preprocessing import Preprocessing, as_size
from offmap.data.types import Resize
from offmap.errors import ArgumentError, DataError

# Shapes are not named in these types: in one list they may differ from image to image.
# Encoded, in memory or in a file; pixels (h, w) or (h, w, 3); or opened already.
Raw: TypeAlias = bytes | Path | Remote | NDArray[np.uint8] | Image.Image
Pixels: TypeAlias = NDArray[Any]  # (c, h, w), uint8; of a transform perhaps float32
Item: TypeAlias = tuple[str, Raw | None]
T = TypeVar("T")

# Only these decoders are run on foreign bytes: PIL knows others, of which EPS starts Ghostscript.
# It also opens a WebP five times as fast when the others are not tried.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_CHUNK = 16  # images a task: fewer cost more in hand-over than in decoding, more cost memory
_READERS = 16  # threads that wait for an object store more than they decode
_threads: int | None = None  # of this process; by default one for each core


class Prepares(Protocol):
    """What an image goes through: ``Preprocessing``, or a function of the user's."""

    @property
    def bytes(self) -> int: ...
    @property
    def resize(self) -> Resize: ...
    def pixels(self, image: Image.Image) -> Pixels:
        """An opened image as an array ``(c, h, w)``."""


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read, or a file that is none.

    Args:
        path: the file, or the file and the row of it.
        reason: why; for an image, what the decoder said.
    """

    path: str
    reason: str


def count_channels_of(item: Item) -> int | Skipped:
    """Channels of an image, 1 or 3, from its header alone."""
    return attempt(item, count_channels)


def preprocessing_for(
    items: Iterable[Item],
    name: str,
    *,
    size: int | tuple[int, int] | None,
    channels: int | None,
    resize: Resize,
) -> tuple[Preprocessing, tuple[int, int, int]]:
    """What the images of a set go through, and the shape that it gives them.

    A size or channels that are not given are read from the headers: the size is that of the first
    image, and there are 3 channels if any image has them.
    """
    extent = as_size(size)
    preprocessing = Preprocessing(channels or 1, extent, resize)
    if extent is not None and channels is not None:
        return preprocessing, (channels, *extent)
    items = iter(items)
    skipped: list[Skipped] = []
    for item in items:
        if isinstance(shape := attempt(item, shape_of), Skipped):
            skipped.append(shape)
            continue
        if channels is None:
            counts = map(count_channels_of, items)
            channels = 3 if shape[0] == 3 or any(count == 3 for count in counts) else 1
        return replace(preprocessing, channels=channels), (channels, *(extent or shape[1:]))
    raise unreadable(name, tuple(skipped))


def shape_of_own(items: Iterable[Item], name: str, own: Prepares) -> tuple[int, int, int]:
    """The shape that a user's function gives the first image, if it gives it one.

    Raises:
        ArgumentError: the function is random: it gives two results for one image.
        DataError: no image of the set can be read.
    """
    skipped: list[Skipped] = []
    for item in items:
        first, second = (_decode(item, own) for _ in range(2))
        if isinstance(first, Skipped) or isinstance(second, Skipped):
            skipped += [x for x in (first, second) if isinstance(x, Skipped)][:1]
            continue
        if first.shape != second.shape or not np.array_equal(first, second, equal_nan=True):
            raise ArgumentError(
                f"{own} gives two results for one image, {item[0]}: take out what is random, which "
                "is for training"
            )
        channels, height, width = first.shape
        return channels, height, width
    raise unreadable(name, tuple(skipped))


def unreadable(name: str, skipped: tuple[Skipped, ...]) -> DataError:
    """No image of a set can be decoded."""
    return DataError(
        f"none of the {len(skipped)} images of {name} can be read; the first, {skipped[0].path}: "
        f"{skipped[0].reason}"
    )


def limit_decoding(threads: int) -> None:
    """Let this process decode with no more than so many threads."""
    global _threads
    _threads = threads


def decode_all(
    items: Iterable[Item], preprocessing: Prepares
) -> Generator[Pixels | Skipped, None, None]:
    """Each item decoded, in order, a few chunks ahead of the reader."""
    items = iter(items)
    first = list(islice(items, 1))
    source = chain(first, items)
    workers = _threads or os.cpu_count() or 1
    if _threads is None and first and isinstance(first[0][1], Remote):
        workers = max(workers, _READERS)
    decode = partial(_decode, preprocessing=preprocessing)
    pool = ThreadPoolExecutor(workers)  # PIL gives up the interpreter lock while it decodes
    pending: deque[Future[list[Pixels | Skipped]]] = deque()
    try:
        while True:
            while len(pending) < 2 * workers and (chunk := list(islice(source, _CHUNK))):
                pending.append(pool.submit(list, map(decode, chunk)))  # mapped in the thread
            if not pending:
                return
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(item: Item, preprocessing: Prepares) -> Pixels | Skipped:
    return attempt(item, preprocessing.pixels)


def attempt(item: Item, look: Callable[[Image.Image], T]) -> T | Skipped:
    """What ``look`` returns for the opened image, or why the image cannot be read."""
    where, raw = item
    try:
        if raw is None:
            raise ValueError("no image is stored here")
        if isinstance(raw, np.ndarray):
            image = Image.fromarray(raw)
        elif isinstance(raw, Image.Image):
            image = raw.copy()  # it is closed here, and is its owner's
        else:
            content = raw.read_bytes() if isinstance(raw, Remote) else raw
            file = BytesIO(content) if isinstance(content, bytes) else content
            image = Image.open(file, formats=_FORMATS)
        with image:
            return look(image)
    except Exception as error:  # broken files make decoders raise nearly anything
        # PIL names the buffer by its address, which differs from run to run.
        return Skipped(where, f"{type(error).__name__}: {error}".split(" <_io.BytesIO")[0])
