"""Encoded images to arrays, in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from offmap.data._fit import Fit, colours

# Shapes are not named in these types: in one list they may differ from image to image.
Raw: TypeAlias = bytes | Path | NDArray[np.uint8]  # encoded, or (h, w) or (h, w, 3)
Pixels: TypeAlias = NDArray[np.uint8]  # (c, h, w)
Item: TypeAlias = tuple[str, Raw | None]

# Only these decoders are run on foreign bytes: PIL knows others, of which EPS starts Ghostscript.
# It also opens a WebP five times as fast when the others need not be asked.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_CHUNK = 16  # images a task: fewer cost more in hand-over than in decoding, more cost memory


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read.

    Args:
        path: its file, or the file and row it lies in.
        reason: what the decoder said.
    """

    path: str
    reason: str


def peek(item: Item) -> tuple[int, int, int] | Skipped:
    """Channels (1 or 3), height and width, from the header alone."""
    where, raw = item
    try:
        with _open(raw) as image:
            return colours(image), image.height, image.width
    except Exception as error:  # broken files make decoders raise nearly anything
        return Skipped(where, _reason(error))


def decode_all(items: Iterable[Item], fit: Fit) -> Generator[Pixels | Skipped, None, None]:
    """Each item decoded, in order, a few chunks ahead of the reader."""
    workers = os.cpu_count() or 1
    source = iter(items)
    pool = ThreadPoolExecutor(workers)  # PIL gives up the interpreter lock while it decodes
    pending: deque[Future[list[Pixels | Skipped]]] = deque()
    try:
        while True:
            while len(pending) < 2 * workers and (chunk := list(islice(source, _CHUNK))):
                pending.append(pool.submit(_decode_chunk, chunk, fit))
            if not pending:
                return
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_chunk(chunk: list[Item], fit: Fit) -> list[Pixels | Skipped]:
    return [_decode(where, raw, fit) for where, raw in chunk]


def _decode(where: str, raw: Raw | None, fit: Fit) -> Pixels | Skipped:
    try:
        with _open(raw) as image:
            array = np.asarray(fit(image))
    except Exception as error:  # broken files make decoders raise nearly anything
        return Skipped(where, _reason(error))
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _open(raw: Raw | None) -> Image.Image:
    if raw is None:
        raise ValueError("no image is stored here")
    if isinstance(raw, np.ndarray):
        return Image.fromarray(raw)
    return Image.open(BytesIO(raw) if isinstance(raw, bytes) else raw, formats=_FORMATS)


def _reason(error: Exception) -> str:
    # PIL names the buffer by its address, which differs from run to run.
    return f"{type(error).__name__}: {error}".split(" <_io.BytesIO")[0]
