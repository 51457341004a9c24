"""From the columns of a batch to samples, each by itself: a broken one spoils no other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from offmap._utils.addresses import place
from offmap._utils.columns import IMAGE
from offmap.data import FEATURES, OwnTransform, Skipped, as_features, decoded
from offmap.data.types import Resize
from offmap.errors import ArgumentError

_ENCODED = ("bytes", "path", "paths", "file")


def column_of(
    columns: Mapping[str, Any], name: str | None, candidates: Sequence[str] = (*IMAGE, *_ENCODED)
) -> str:
    """The column of inputs: the one of this name, or else the first of the candidates.

    Raises:
        ArgumentError: there is none.
    """
    column = name or next((each for each in candidates if each in columns), None)
    if column is None or column not in columns:
        raise ArgumentError(
            f"the batch has columns {', '.join(columns)}, and none of "
            f"{name or ', '.join(candidates)}: give column=, the one that holds the inputs"
        )
    return column


def images_of(
    values: Iterable[Any],
    shape: tuple[int, int, int],
    *,
    resize: Resize,
    own: OwnTransform | None,
) -> list[Tensor | Skipped]:
    """An image for each value, or why there is none."""
    samples: list[Any] = []
    encoded: list[tuple[str, Any]] = []
    for i, value in enumerate(values):
        sample = _sample(f"row {i}", value, shape)
        if not isinstance(sample, Tensor | Skipped):
            encoded.append((str(i), sample))
        samples.append(sample)
    images = decoded(encoded, shape, resize=resize, own=own)
    for name, image in images:
        samples[int(name)] = image
    return samples


def _sample(name: str, value: Any, shape: tuple[int, int, int]) -> Any:
    """A tensor of a value that needs no decoding, or what to decode, or why it is neither."""
    if isinstance(value, Mapping):  # the image feature of the library datasets
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        return place(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Path | Image.Image):
        return value
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        return Skipped(name, f"{type(value).__name__}: {error}")
    if array.shape == shape and array.dtype.kind in "f":
        return torch.from_numpy(np.ascontiguousarray(array, np.float32))
    if array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() <= 255:
        pixels = np.ascontiguousarray(array, np.uint8)
        if pixels.shape == shape:
            return torch.from_numpy(pixels)
        if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3):
            pixels = pixels.transpose(1, 2, 0)
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3):
            return np.ascontiguousarray(pixels)
    return Skipped(name, f"{array.dtype} of shape {array.shape}, and the guard takes {shape}")


def rows_of(
    columns: Mapping[str, Any],
    names: Sequence[str],
    column: str | None,
    shape: tuple[int, ...] | None,
) -> list[dict[str, Tensor] | Skipped]:
    """Features, or tensors by name, for each row."""
    inputs = list(names) or [column_of(columns, column, FEATURES)]
    for name in inputs:
        column_of(columns, name)
    samples: list[dict[str, Tensor] | Skipped] = []
    for i, row in enumerate(zip(*(columns[name] for name in inputs), strict=True)):
        try:
            arrays = [np.asarray(value) for value in row]
            if any(array.dtype.kind not in "iufb" for array in arrays):
                raise ValueError(", ".join(str(array.dtype) for array in arrays))
            tensors = [torch.from_numpy(array.copy()) for array in arrays]
            samples.append(dict(zip(inputs, tensors, strict=True)))
        except (ValueError, TypeError) as error:
            samples.append(Skipped(f"row {i}", f"columns that are no numbers: {error}"))
    if names:
        return samples
    return [
        x if isinstance(x, Skipped) else as_features(f"row {i}", x, shape)
        for i, x in enumerate(samples)
    ]
