"""Records with tensors in a folder: JSON and safetensors, nothing pickled.

Every record has one form, ``{"format": "offmap KIND", "version": 2, ..., "files": {LABEL: {"name":
..., "sha256": ...}}}``; a subclass of :class:`Record` defines the fields of its kind. The tensors
are in files named by their content, unless a kind names them itself; the scores of an evaluation
are a table instead. A record replaces the old one in one step, after its tensors are written: a
process that is killed while saving leaves the old state, the new one, or one whose hashes do not
fit, which is refused. Threads or processes that save at once do so one after the other, and a
reader gets one of their states.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, overload

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as tensors_to
from torch import Tensor

from offmap._utils.files import alone_in, atomic, reason_of, write_json
from offmap.errors import StoreError

_VERSION = 2
# In some versions of msgspec its errors are no ValueError.
_UNREADABLE = (OSError, ValueError, RecursionError, msgspec.MsgspecError)
_BY_CONTENT = re.compile(r"[a-z]+-[0-9a-f]{16}\.safetensors")

Tensors = Mapping[str, Tensor]


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of tensors, or of a table, beside a record.

    Args:
        name: without a folder.
        sha256: of its content.
    """

    name: Annotated[
        str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]*\.(safetensors|parquet)\Z")
    ]
    sha256: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Record(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """The fields of all records; each kind adds its own.

    Args:
        format: ``offmap KIND``.
        version: of the format.
        files: by label.
    """

    format: str
    version: int
    files: dict[str, File]


R = TypeVar("R", bound=Record)


def write(
    folder: str | Path,
    kind: str,
    record: Mapping[str, Any],
    files: Mapping[str, Tensors],
    *,
    stem: str | None = None,
    names: Mapping[str, str] | None = None,
    schema: type[Record] | None = None,
) -> None:
    """Write a record and its tensors, in one step that cannot be torn.

    Args:
        folder: where; an older record of the same name is replaced.
        kind: of the record.
        record: its fields, as JSON values.
        files: tensors by label, such as ``{"state": {...}}``.
        stem: the record becomes ``STEM.json``; by default ``KIND.json``.
        names: of the files of some labels; the others are named by their content.
        schema: the fields that the record must have, else nothing is written.

    Raises:
        StoreError: the record is not as the schema says.
    """
    path = Path(folder) / f"{stem or kind}.json"
    entries, blobs = {}, {}
    for label, tensors in files.items():
        # Copies, because a shaper inside a shaper shares the head with it, which is refused.
        data = tensors_to({k: x.detach().cpu().clone().contiguous() for k, x in tensors.items()})
        digest = hashlib.sha256(data).hexdigest()
        name = (names or {}).get(label, f"{label}-{digest[:16]}.safetensors")
        entries[label] = {"name": name, "sha256": digest}
        blobs[name] = data
    content = {**stamp(kind), **record, **stamp(kind), "files": entries}
    if schema is not None:
        _convert(content, schema, path, "nothing is written")
    with alone_in(path.parent):  # else one could remove the files of another
        try:
            former = msgspec.json.decode(_content_of(path))["files"].values()
            older = {str(entry["name"]) for entry in former}
        # There is none, or any other file is in its place.
        except (*_UNREADABLE, LookupError, TypeError, AttributeError):
            older = set()
        for name, data in blobs.items():
            with atomic(path.parent / name) as temporary:
                temporary.write_bytes(data)
        write_json(path, content)
        for name in filter(_BY_CONTENT.fullmatch, older - set(blobs)):
            (path.parent / name).unlink(missing_ok=True)


def stamp(kind: str) -> dict[str, Any]:
    """The fields that identify a record of this kind."""
    return {"format": f"offmap {kind}", "version": _VERSION}


@overload
def read(
    folder: str | Path, kind: str, *, made_by: str | None = None
) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]: ...


@overload
def read(
    folder: str | Path, kind: str, *, schema: type[R], made_by: str | None = None
) -> tuple[R, dict[str, dict[str, Tensor]]]: ...


def read(
    folder: str | Path, kind: str, *, schema: Any = None, made_by: str | None = None
) -> tuple[Any, dict[str, dict[str, Tensor]]]:
    """Read a record and its tensors back, checking every hash.

    Args:
        folder: where :func:`write` put them.
        kind: of the record.
        schema: the fields that it must have; returned in place of plain values.
        made_by: the command that makes such a record, for messages.

    Raises:
        StoreError: a file is missing or damaged, of another kind or version, or not as the schema
            says.
    """
    path, remedy = Path(folder) / f"{kind}.json", _remedy(made_by)
    while True:
        original = _bytes_of(path)
        try:
            content = _content(path, kind, made_by)
            stamped = {name: content.get(name) for name in Record.__struct_fields__}
            entries = _convert(stamped, Record, path, remedy).files
            record = content if schema is None else _convert(content, schema, path, remedy)
            files = {k: read_tensors(path.parent / e.name, e.sha256) for k, e in entries.items()}
            return record, files
        except StoreError:
            if _bytes_of(path) == original:
                raise
            # Saved anew meanwhile, and the older tensors were removed.


def _bytes_of(path: Path) -> bytes | None:
    try:
        return _content_of(path)
    except OSError:
        return None


def _content_of(path: Path) -> bytes:
    """The content of a file; a device or pipe, which may never end, is refused."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError("it is a device or a pipe, and no file")
    return path.read_bytes()


def read_record(path: Path, kind: str, schema: type[R], *, made_by: str | None = None) -> R:
    """Read a record without its tensors, from a file of any name.

    Raises:
        StoreError: it cannot be read, is of another kind or version, or not as the schema says.
    """
    return _convert(_content(path, kind, made_by), schema, path, _remedy(made_by))


def read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """The tensors of a file that must have this hash; hashed and read from the same bytes.

    Raises:
        StoreError: it is missing, damaged, or another.
    """
    try:
        content = _content_of(path)
        if (digest := hashlib.sha256(content).hexdigest()) != sha256:
            raise StoreError(
                f"{path} is damaged, or not the file of its record: its sha256 is {digest}, and "
                f"the record says {sha256}; take both from one place"
            )
        with torch.device("cpu"):  # safetensors allocates on torch's default device
            return dict(tensors_from(content))
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} cannot be read: {reason_of(error)}") from error


def _content(path: Path, kind: str, made_by: str | None) -> dict[str, Any]:
    """The content of a record, if it is of this kind and version."""
    try:
        content = msgspec.json.decode(_content_of(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = f": `{made_by}` makes one" if made_by else ""
        raise StoreError(f"{path.parent} holds no {kind}, there is no {path.name}{hint}") from error
    except _UNREADABLE as error:
        raise StoreError(f"{path} cannot be read: {reason_of(error)}") from error
    # Before version 2, some kinds of records did not say what they are.
    if not isinstance(content, dict) or content.get("format", f"offmap {kind}") != f"offmap {kind}":
        raise StoreError(f"{path} is no {kind} record")
    version = content.get("version") if "format" in content else None
    if version != _VERSION:
        newer = isinstance(version, int) and version > _VERSION
        remedy = "it needs a newer offmap" if newer else _remedy(made_by)
        stated = "of no stated version" if version is None else f"of version {version!r}"
        raise StoreError(f"{path} is {stated}, and this offmap reads version {_VERSION}: {remedy}")
    return content


def _convert(content: dict[str, Any], schema: type[R], path: Path, remedy: str) -> R:
    try:
        return msgspec.convert(content, schema, str_keys=True)  # as JSON has them
    except msgspec.ValidationError as error:
        raise StoreError(f"{path} does not hold what it must ({error}): {remedy}") from error


def _remedy(made_by: str | None) -> str:
    return f"make it anew with `{made_by}`" if made_by else "make it anew"
