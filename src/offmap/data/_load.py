"""From what a user writes to a set of images."""

from __future__ import annotations

import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from offmap.data._arrays import Arrays
from offmap.data._embedded import embedded
from offmap.data._folder import Folder
from offmap.data._hub import Hub
from offmap.data._image_set import ImageSet
from offmap.data._names import find, not_found
from offmap.data._parquet import Parquet
from offmap.data._source import Source
from offmap.data._streamed import StreamedSet
from offmap.errors import DataError, DataNotFoundError

_FILES: dict[str, Callable[[Path], Source]] = {
    ".mat": Arrays.mat,
    ".npy": Arrays.npy,
    ".npz": Arrays.npz,
    ".parquet": Parquet.open,
}


def load(
    spec: str | PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    keep_in_memory_bytes: int = 1 << 30,
) -> ImageSet | StreamedSet:
    """Images by name, from a path, or from the hub.

    A corrupt image is left out and stands in ``skipped``.

    Args:
        spec: one of

            * a name, ``cifar10`` or ``cifar10:train``: looked up in
              ``$OFFMAP_DATA/NAME/SPLIT.parquet``, then, if :func:`known`, on the hub. Without a
              split it means ``test``, else ``val``, else the only one.
            * a path: a folder of images (one subfolder a class, or flat and without labels),
              ``.parquet`` (columns ``image`` and, if there, ``label``), ``.npz`` (images/labels,
              x/y or data/labels), ``.npy``, or SVHN's ``.mat``. Arrays are uint8, ``(n, h, w)``,
              ``(n, h, w, c)`` or ``(n, c, h, w)`` with c 1 or 3.
            * ``hf:owner/name`` or ``hf:owner/name:split`` on the hub; or a local folder.
            * ``embedded:digits`` and the like, see :func:`embedded`.
        size: the shorter side is resized to it (bicubic, antialiased), then the centre is cut out;
            or a pair (h, w) to cover. ``None`` keeps the size, which must then be one for all.
        channels: 1 for grey, 3 for colour; ``None`` is 3 if any image is in colour.
        limit: how many at most; they are chosen before any image is decoded.
        seed: chooses which.
        keep_in_memory_bytes: a set that would be larger when decoded is streamed.

    Raises:
        DataNotFoundError: nothing of that name or path; the message says how to get it.
        DataError: no images, none that can be read, or no common size.
        LabelError: labels missing or beyond the classes.
        MissingExtraError: ``hf:`` was asked for without the library ``datasets``.
    """
    if isinstance(spec, str) and spec.startswith("embedded:"):
        name = spec.removeprefix("embedded:")
        return embedded(name, size=size, channels=channels, limit=limit, seed=seed)
    name, source = _open(spec)
    found = StreamedSet.of(source, name, size=size, channels=channels, limit=limit, seed=seed)
    return found.hold() if found.nbytes <= keep_in_memory_bytes else found


def _open(spec: str | PathLike[str]) -> tuple[str, Source]:
    if not isinstance(spec, str):
        return _path(Path(spec))
    if spec.startswith("hf:"):
        return _hub(spec.removeprefix("hf:"))
    is_path = spec.startswith((".", "~")) or not {"/", os.sep}.isdisjoint(spec)
    if is_path or Path(spec).suffix in _FILES:
        return _path(Path(spec).expanduser())
    if (found := find(spec)) is not None:
        return found
    # Last, so that a folder without a slash in its name cannot hide a known name.
    if spec and Path(spec).exists():
        return _path(Path(spec))
    raise not_found(spec)


def _path(path: Path) -> tuple[str, Source]:
    if path.is_dir():
        return str(path), Folder.scan(path)
    if not path.exists():
        raise DataNotFoundError(f"{path} does not exist: look at the path, or give a name")
    if (open_file := _FILES.get(path.suffix.lower())) is None:
        readable = ", ".join(_FILES)
        raise DataError(f"{path} is of no kind that is read: give a folder of images, {readable}")
    return str(path), open_file(path)


def _hub(spec: str) -> tuple[str, Source]:
    repository, colon, split = spec.rpartition(":")
    if not colon or "/" in split:
        repository, split = spec, ""
    source = Hub.open(repository, split or None)
    return source.where, source
