"""Rows of text or features, for networks that take no images; a broken one keeps its place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from offmap._utils.addresses import Remote, opened, place
from offmap._utils.arguments import does_not_exist
from offmap.data._decode import Skipped
from offmap.data._features import FEATURES
from offmap.errors import ArgumentError, DataError, DataNotFoundError

_ROWS = 4096
_MASK = "attention_mask"
Tensors = dict[str, Tensor]


def read_rows(
    inputs: Iterable[str],
    names: Sequence[str],
    *,
    passed: Iterable[str] = (),
    shape: tuple[int, ...] | None = None,
) -> Iterator[tuple[str, Tensors | Skipped]]:
    """The rows of JSON-lines and Parquet files, each called by its file and number.

    Args:
        inputs: ``.jsonl`` or ``.parquet`` files.
        names: columns of numbers or of lists of numbers, such as ``input_ids``. An
            ``attention_mask`` that is missing is one everywhere; none at all stands for a column of
            features, called features, embeddings, embedding or x.
        passed: names of the first rows, which are passed over.
        shape: of the features of a row; a row of another shape is skipped.

    Raises:
        DataError: another kind of file.
        DataNotFoundError: there is none.
        ArgumentError: the first rows are others than those to be passed over.
    """
    rows = _rows(inputs)
    for i, name in enumerate(passed):
        if (current := next(rows, ("missing", {}))[0]) != name:
            raise ArgumentError(f"row {i} was {name}, and is {current} now: these are other rows")
    for name, row in rows:
        yield name, row if isinstance(row, Skipped) else _tensors(name, row, names, shape)


def _rows(inputs: Iterable[str]) -> Iterator[tuple[str, Any]]:
    for spec in inputs:
        path = place(spec)
        if path.suffix not in (".jsonl", ".parquet"):
            raise DataError(f"{spec}: rows are read from .jsonl and .parquet files")
        if isinstance(path, Path) and not path.exists():
            raise DataNotFoundError(f"{does_not_exist(path)}look at the path")
        read = _read_jsonl if path.suffix == ".jsonl" else _read_parquet
        for i, row in enumerate(read(path)):
            name = f"{spec}#{i}"
            yield name, Skipped(name, f"no JSON: {row}") if isinstance(row, Exception) else row


def _read_jsonl(path: Path | Remote) -> Iterator[Any]:
    """The rows; in the place of a broken one, the error."""
    lines = BufferedReader(path.open()) if isinstance(path, Remote) else path.open("rb")
    with lines as file:
        for line in filter(bytes.strip, file):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                yield error


def _read_parquet(path: Path | Remote) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(opened(path)) as file:
            for batch in file.iter_batches(_ROWS):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as a Parquet file: {error}") from error


def _tensors(
    name: str, row: Any, names: Sequence[str], shape: tuple[int, ...] | None
) -> Tensors | Skipped:
    if not isinstance(row, Mapping):
        return Skipped(name, f"no columns, but a {type(row).__name__}")
    columns = names or [next((n for n in FEATURES if n in row), FEATURES[0])]
    tokens = [column for column in columns if column != _MASK]
    try:
        unmasked = _MASK in columns and _MASK not in row and tokens
        values = {**row, _MASK: [1] * len(row[tokens[0]])} if unmasked else row
        tensors = {n: torch.tensor(values[n], device="cpu") for n in columns}
    except KeyError as error:
        return Skipped(name, f"no column {error}: there are {', '.join(row)}")
    except (ValueError, TypeError, RuntimeError) as error:
        return Skipped(name, f"columns that are no numbers: {error}")
    return tensors if names else as_features(name, tensors, shape)


def as_features(name: str, row: Tensors, shape: tuple[int, ...] | None) -> Tensors | Skipped:
    """A row of features, integers as floats; or why it is none."""
    ((column, x),) = row.items()
    if shape is not None and tuple(x.shape) != tuple(shape):
        return Skipped(name, f"features of {tuple(x.shape)}, not {tuple(shape)}")
    return {column: x if x.is_floating_point() else x.float()}


def groups_of(rows: Sequence[Tensors | Skipped], names: Sequence[str]) -> list[list[int]]:
    """Which rows can be in one batch, by their numbers.

    With an ``attention_mask`` all may: it says where each ends. Without one a network would read
    what a row is filled up with, and its logits would depend on the other rows.
    """
    if not names or _MASK in names:
        return [list(range(len(rows)))]
    groups: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        kind = None if isinstance(row, Skipped) else tuple(row[name].shape for name in names)
        groups.setdefault(kind, []).append(i)
    return list(groups.values())


def padded(
    rows: Sequence[Tensors], names: Sequence[str], padding: int | None = None
) -> Tensor | Tensors:
    """Rows as one batch, lists filled up on the right; features as one tensor.

    Args:
        rows: of one of the groups of :func:`groups_of`.
        names: of their columns, none of features.
        padding: the token that ``input_ids`` are filled up with: some networks look for it, and not
            at the mask. All else is filled up with zeros.

    Raises:
        DataError: features of several lengths.
    """
    if names:
        columns = {name: [row[name] for row in rows] for name in names}
        fill = {"input_ids": float(padding or 0)}
        return {
            name: pad_sequence(xs, batch_first=True, padding_value=fill.get(name, 0.0))
            if xs[0].ndim
            else torch.stack(xs)
            for name, xs in columns.items()
        }
    values = [next(iter(row.values())) for row in rows]
    if len(lengths := {tuple(x.shape) for x in values}) > 1:
        raise DataError(f"features of one length are needed; seen {sorted(lengths)}")
    return torch.stack(values)
