"""From what a user writes to a set of images."""

from __future__ import annotations

import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from offmap._utils.addresses import Remote, is_address
from offmap._utils.arguments import does_not_exist
from offmap._utils.files import expanded
from offmap.data._corruptions import corrupted
from offmap.data._embedded import embedded
from offmap.data._image_set import ImageSet
from offmap.data._left_out import tell_skipped
from offmap.data._names import look_up, not_found
from offmap.data._noise import noise
from offmap.data._own_transform import OwnTransform
from offmap.data._streamed_set import StreamedSet
from offmap.data.sources import Source
from offmap.data.sources.arrays import Arrays
from offmap.data.sources.folder import Folder
from offmap.data.sources.hub import Hub
from offmap.data.sources.parquet import Parquet
from offmap.data.sources.store import Store
from offmap.data.types import Resize
from offmap.errors import ArgumentError, DataError, DataNotFoundError

_FILES: dict[str, Callable[[Path], Source]] = {
    ".mat": Arrays.mat,
    ".npy": Arrays.npy,
    ".npz": Arrays.npz,
    ".parquet": Parquet.open,
}
_NOISE_SAMPLES = 2000


def load(
    spec: str | PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    resize: Resize = "crop",
    transform: str | OwnTransform | Callable[[Any], Any] | None = None,
    keep_in_memory_bytes: int = 1 << 30,
) -> ImageSet | StreamedSet:
    """Images by name, from a path, or from the hub.

    An image is turned as its EXIF orientation mark says. A corrupt image is left out and stands in
    ``skipped``; files of a folder that are no images stand in ``left_out``. One ``LeftOutWarning``
    counts both; of a streamed set, corrupt images are told after the pass that met them.

    Args:
        spec: one of

            * a name, ``cifar10`` or ``cifar10:train``: looked up in
              ``$OFFMAP_DATA/NAME/SPLIT.parquet``, then, if it is among :func:`named_sets`, on the
              hub. Without a split it means ``test``, else ``val``, else the only one.
            * a path: a folder of images (one subfolder a class, or flat and without labels; hidden
              and system folders are none, and a file without a suffix is one by its content);
              ``.parquet`` (columns ``image`` and, if there, ``label``), ``.npz`` (images/labels,
              x/y or data/labels), ``.npy``, or SVHN's ``.mat``. Arrays are uint8, ``(n, h, w)``,
              ``(n, h, w, c)`` or ``(n, c, h, w)`` with c 1 or 3.
            * ``hf:owner/name`` or ``hf:owner/name:split`` on the hub; or a local folder.
            * an address, ``s3://bucket/photos`` or ``gs://bucket/test.parquet``: a folder of images
              or a Parquet file in an object store that Arrow or fsspec reads. Secrets stand in the
              environment.
            * ``embedded:digits`` and the like, see :func:`embedded`.
        size: height and width, or both in one number; images are brought to it (bicubic,
            antialiased) as ``resize`` says. ``None`` keeps the size, which must be one for all.
        channels: 1 for grey, 3 for colour; ``None`` is 3 if any image is in colour.
        limit: how many at most; they are chosen before any image is decoded.
        seed: chooses which.
        resize: "crop" scales until the size is covered, the shorter side to it if it is a square,
            and cuts out the centre; "squash" scales height and width by themselves.
        transform: in the place of ``size``, ``channels`` and ``resize``, a function of your own, or
            ``file.py:NAME``: from a PIL image to an array ``(c, h, w)``, uint8 or normalised
            floats.
        keep_in_memory_bytes: a set that would be larger when decoded is streamed.

    Raises:
        DataNotFoundError: nothing of that name or path; the message says how to get it.
        DataError: no images, none that can be read, or no common size.
        LabelError: labels missing or beyond the classes.
        MissingExtraError: ``hf:`` was asked for without the library ``datasets``.
    """
    own = None if transform is None else OwnTransform.of(transform)
    if own is not None and (size is not None or channels is not None):
        raise ArgumentError(f"{own.name} decides on size and channels: leave them out")
    if isinstance(spec, str) and spec.startswith("embedded:"):
        return embedded(
            spec.removeprefix("embedded:"),
            size=size,
            channels=channels,
            limit=limit,
            seed=seed,
            resize=resize,
            own=own,
        )
    name, source = _open(spec)
    images = StreamedSet.of(
        source, name, size=size, channels=channels, limit=limit, seed=seed, resize=resize, own=own
    )
    if images.nbytes <= keep_in_memory_bytes:
        return images.hold()
    tell_skipped(images)
    return images


def load_like(
    spec: str | PathLike[str],
    like: ImageSet | StreamedSet,
    *,
    limit: int | None = None,
    seed: int = 0,
    resize: Resize | None = None,
) -> ImageSet | StreamedSet:
    """Images of the size and channels of another set, as the other sets of an evaluation must be.

    Args:
        spec: as for :func:`load`; or ``noise:KIND`` for :func:`noise`, 2000 samples of it, or as
            many as ``like`` has where those are fewer; or ``corrupt:KIND``, ``corrupt:KIND:3`` for
            :func:`corrupted`, the images of ``like`` made worse.
        like: the set whose shape counts; ``noise:shuffled`` cuts up its images.
        limit: how many at most.
        seed: chooses which, and draws the noise.
        resize: as for :func:`load`; ``None`` is that of ``like``, or "crop".
    """
    if isinstance(spec, str) and spec.startswith("corrupt:"):
        kind, _, severity = spec.removeprefix("corrupt:").partition(":")
        if severity and not severity.isdecimal():
            raise ArgumentError(f"{spec}: the severity is one of 1 to 5, as in corrupt:{kind}:3")
        strength = {"severity": int(severity)} if severity else {}
        images = like if limit is None else like.take(limit, seed)
        return corrupted(kind, images, seed=seed, **strength)
    if not isinstance(spec, str) or not spec.startswith("noise:"):
        if like.own is None:
            channels, height, width = like.shape
            return load(
                spec, size=(height, width), channels=channels, limit=limit, seed=seed,
                resize=resize or like.resize or "crop",
            )  # fmt: skip
        images = load(spec, limit=limit, seed=seed, transform=like.own)
        if images.shape != like.shape:
            raise DataError(
                f"{like.own} makes images of {like.shape} of {like.name}, and of {images.shape} of "
                f"{images.name}: let it bring all to one shape"
            )
        return images
    count = min(_NOISE_SAMPLES, len(like), _NOISE_SAMPLES if limit is None else limit)
    kind = spec.removeprefix("noise:")
    pictures = None
    if kind == "shuffled":
        pictures = like.take(count, seed).hold() if isinstance(like, StreamedSet) else like
    return noise(kind, count, like.shape, seed=seed, like=pictures)


def _open(spec: str | PathLike[str]) -> tuple[str, Source]:
    if not isinstance(spec, str):
        return _path(Path(spec))
    if is_address(spec):
        remote = Remote(spec)
        if remote.is_dir:
            return spec, Store.scan(remote)
        if remote.suffix.lower() != ".parquet":
            raise DataError(
                f"{remote}: of an object store, folders of images and .parquet are read"
            )
        return spec, Parquet.open(remote)
    if spec.startswith("hf:"):
        repository, colon, split = spec.removeprefix("hf:").rpartition(":")
        if not colon or "/" in split:
            repository, split = spec.removeprefix("hf:"), ""
        source = Hub.open(repository, split or None)
        return source.where, source
    is_path = spec.startswith((".", "~")) or not {"/", os.sep}.isdisjoint(spec)
    if is_path or Path(spec).suffix in _FILES:
        return _path(expanded(spec))
    if (named := look_up(spec)) is not None:
        return named
    # Last, so that a folder without a slash in its name cannot hide a known name.
    if spec and Path(spec).exists():
        return _path(Path(spec))
    raise not_found(spec)


def _path(path: Path) -> tuple[str, Source]:
    if path.is_dir():
        return str(path), Folder.scan(path)
    if not path.exists():
        raise DataNotFoundError(f"{does_not_exist(path)}look at the path, or give a name")
    if (open_file := _FILES.get(path.suffix.lower())) is None:
        readable = ", ".join(_FILES)
        raise DataError(f"{path} is of no kind that is read: give a folder of images, {readable}")
    return str(path), open_file(path)
