"""Data sets by name: in ``$OFFMAP_DATA``, then on the hub."""

from __future__ import annotations

import os
from pathlib import Path

from offmap.data._hub import Hub, library
from offmap.data._known import known
from offmap.data._parquet import Parquet
from offmap.data._source import Source
from offmap.data._splits import choose_split
from offmap.errors import DataNotFoundError, MissingExtraError


def find(spec: str) -> tuple[str, Source] | None:
    """``NAME`` or ``NAME:SPLIT``: what it is called in full, and its images; None if unknown.

    Raises:
        DataNotFoundError: the name is there, but not the split; or the hub cannot be read.
    """
    name, _, split = spec.partition(":")
    return _local(name, split or None) or _on_hub(name, split or None)


def is_local(name: str) -> bool:
    """Whether ``$OFFMAP_DATA`` holds a set of that name, so that the hub need not be asked."""
    root = os.environ.get("OFFMAP_DATA")
    return bool(root and name) and any(Path(str(root), name).glob("*.parquet"))


def not_found(spec: str) -> DataNotFoundError:
    """What was tried, what is there, and how to get the set."""
    name = spec.partition(":")[0]
    root, entry = os.environ.get("OFFMAP_DATA"), known().get(name)
    if not root:
        tried = "OFFMAP_DATA is not set"
    else:
        there = sorted({path.parent.name for path in Path(root).glob("*/*.parquet")})
        tried = f"OFFMAP_DATA={root} holds {', '.join(there) or 'no data sets'}"
    if entry is None:
        hub = f"the hub is asked for known names only ({', '.join(known())})"
    elif entry.repository is None:
        hub = f"no place on the hub is known ({entry.note})"
    else:
        hub = "the hub is not reached without the library datasets: pip install 'offmap[hub]'"
    return DataNotFoundError(
        f"no data set {name!r}: {tried}; {hub}. Set OFFMAP_DATA to a folder with "
        f"{name}/test.parquet, or give a path, or hf:owner/name"
    )


def _local(name: str, split: str | None) -> tuple[str, Source] | None:
    root = os.environ.get("OFFMAP_DATA")
    if not root or not name:
        return None
    files = {file.stem: file for file in Path(root, name).glob("*.parquet")}
    if not files:
        return None
    chosen = choose_split(files, split, name)
    return f"{name}:{chosen}", Parquet.open(files[chosen])


def _on_hub(name: str, split: str | None) -> tuple[str, Source] | None:
    entry = known().get(name)
    if entry is None or entry.repository is None or not _has_library():
        return None
    chosen = choose_split(entry.splits, split, name)
    try:
        source = Hub.open(
            entry.repository, chosen, config=entry.config, image=entry.image, label=entry.label
        )
    except DataNotFoundError as error:
        raise DataNotFoundError(
            f"{error}. Without the hub: set OFFMAP_DATA to a folder with {name}/{chosen}.parquet"
        ) from error
    return f"{name}:{chosen}", source


def _has_library() -> bool:
    try:
        library()
    except MissingExtraError:
        return False
    return True
