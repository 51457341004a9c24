"""Data sets by name: in ``$OFFMAP_DATA``, then on the hub."""

from __future__ import annotations

import os
from pathlib import Path

from offmap._utils.arguments import did_you_mean, names_in
from offmap.data._embedded import EMBEDDED
from offmap.data._named_sets import named_sets
from offmap.data.sources import Source
from offmap.data.sources.hub import Hub, choose_split, library
from offmap.data.sources.parquet import Parquet
from offmap.errors import DataNotFoundError, MissingExtraError


def look_up(spec: str) -> tuple[str, Source] | None:
    """``NAME`` or ``NAME:SPLIT``: what it is called in full, and its images; None if unknown.

    Raises:
        DataNotFoundError: the name is there, but not the split; or the hub cannot be read.
    """
    name, _, split = spec.partition(":")
    root = os.environ.get("OFFMAP_DATA")
    files = Path(root, name).glob("*.parquet") if root and name else ()
    if splits := {file.stem: file for file in files}:
        split = choose_split(splits, split or None, name)
        return f"{name}:{split}", Parquet.open(splits[split])
    entry = named_sets().get(name)
    if entry is None or entry.repository is None:
        return None
    try:
        library()
    except MissingExtraError:
        return None
    split = choose_split(entry.splits, split or None, name)
    try:
        source = Hub.open(
            entry.repository, split, config=entry.config, image=entry.image, label=entry.label
        )
    except DataNotFoundError as error:
        raise DataNotFoundError(
            f"{error}. Without the hub: set OFFMAP_DATA to a folder with {name}/{split}.parquet"
        ) from error
    return f"{name}:{split}", source


def is_local(name: str) -> bool:
    """Whether ``$OFFMAP_DATA`` holds a set of that name, so that the hub need not be asked."""
    root = os.environ.get("OFFMAP_DATA")
    return bool(root and name) and any(Path(str(root), name).glob("*.parquet"))


def not_found(spec: str) -> DataNotFoundError:
    """An error that names the places looked in, the sets there, and how to get this one."""
    name = spec.partition(":")[0]
    root, entry, stored = os.environ.get("OFFMAP_DATA"), named_sets().get(name), []
    if not root:
        tried = "OFFMAP_DATA is not set"
    else:
        stored = sorted({path.parent.name for path in Path(root).glob("*/*.parquet")})
        tried = f"OFFMAP_DATA={root} holds {', '.join(stored) or 'no data sets'}"
    if entry is None:
        hub = f"the hub is asked for known names only ({', '.join(named_sets())})"
    elif entry.repository is None:
        hub = f"no place on the hub is known ({entry.note})"
    else:
        hub = "the hub is not reached without the library datasets: pip install 'offmap[hub]'"
    hint = ""
    if name == "noise":
        hint = "noise takes the shape of another set, so load it by load_like. "
    elif name in EMBEDDED:
        hint = f"did you mean 'embedded:{name}'? "
    elif entry is None:
        near = did_you_mean(name, {*named_sets(), *stored})
        hint = near or did_you_mean(name, names_in(Path()))
    return DataNotFoundError(
        f"no data set {name!r}: {hint}{tried}; {hub}. Set OFFMAP_DATA to a folder with "
        f"{name}/test.parquet, or give a path, or hf:owner/name"
    )
