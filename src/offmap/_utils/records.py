"""Records with tensors in a folder: JSON and safetensors, nothing pickled.

The tensors of a record lie in files named by their content, and the record names them with their
hashes. A record takes the place of the old one in one step, after its tensors are there: whoever is
killed while saving leaves the old state or the new one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as tensors_to
from torch import Tensor

from offmap._utils.files import atomic, write_json
from offmap.errors import StoreError

_VERSION = 1
_FILE_NAME = re.compile(r"[a-z]+-[0-9a-f]{16}\.safetensors")

Tensors = Mapping[str, Tensor]


def write(
    folder: str | Path, kind: str, record: Mapping[str, Any], files: Mapping[str, Tensors]
) -> None:
    """Write a record and its tensors, in one step that cannot be torn.

    Args:
        folder: where; an older record of the same kind is replaced.
        kind: the record becomes ``KIND.json``.
        record: what JSON keeps.
        files: tensors by file, such as ``{"state": {...}}``.
    """
    folder = Path(folder)
    older = _names(folder / f"{kind}.json")
    entries = {}
    for label, tensors in files.items():
        # Copies, because a shaper inside a shaper shares the head with it, which is refused.
        content = tensors_to({k: x.detach().cpu().clone().contiguous() for k, x in tensors.items()})
        digest = hashlib.sha256(content).hexdigest()
        entries[label] = {"name": f"{label}-{digest[:16]}.safetensors", "sha256": digest}
        with atomic(folder / entries[label]["name"]) as temporary:
            temporary.write_bytes(content)
    stamp = {"format": f"offmap {kind}", "version": _VERSION}
    write_json(folder / f"{kind}.json", {**stamp, **record, "files": entries})
    for name in older - {entry["name"] for entry in entries.values()}:
        (folder / name).unlink(missing_ok=True)


def _names(path: Path) -> set[str]:
    """The files that a record names, none if it cannot be read: it may be whatever was there."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["files"].values()
        names = {str(entry["name"]) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()
    return {name for name in names if _FILE_NAME.fullmatch(name)}


def read(folder: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Read a record and its tensors back, checking every hash.

    Raises:
        StoreError: a file is missing or damaged, or of another kind or version.
    """
    path = Path(folder) / f"{kind}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refused)
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if not isinstance(record, dict) or record.get("format") != f"offmap {kind}":
        raise StoreError(f"{path} is not the record of a {kind}")
    if record.get("version") != _VERSION:
        raise StoreError(f"{path} is of version {record.get('version')!r}; known: {_VERSION}")
    entries = record.get("files")
    if not isinstance(entries, dict):
        raise StoreError(f"{path} does not say which files belong to it")
    return record, {label: _tensors(path, entry) for label, entry in entries.items()}


def _tensors(record: Path, entry: Any) -> dict[str, Tensor]:
    name, digest = (entry.get(k) if isinstance(entry, dict) else None for k in ("name", "sha256"))
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        raise StoreError(f"{record} names a file {name!r}, which is none of ours")
    path = record.parent / name
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise StoreError(f"{path} is damaged: its hash is not the one in {record.name}")
        return dict(tensors_from(content))
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
