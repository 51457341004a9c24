"""Samples as tensors: arrays and pictures, one or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offmap.errors import DataError


def as_sample(x: Any) -> Tensor:
    """One sample as a tensor; pictures as uint8 with channels first.

    Raises:
        DataError: it is no sample, or a picture that cannot be read.
    """
    if isinstance(x, Tensor):
        return x
    if is_picture(x):
        from offmap._utils.pictures import pixels_of  # with Pillow, which is there if x is

        try:
            return torch.from_numpy(pixels_of(x))
        except (ValueError, OSError, SyntaxError) as error:  # floats, or a file that is torn
            raise DataError(f"a picture cannot be read: {error}") from error
    if isinstance(x, np.ndarray) and x.dtype.kind in "iufb":
        return channels_first(tensor_of(x)[None])[0]
    raise DataError(f"a sample must be a tensor, an array or a picture; seen {type(x).__name__}")


def pictures_in(inputs: Any) -> list[Any]:
    """The pictures of Pillow in an input that is one, or a batch of them; else none."""
    if is_picture(inputs):
        return [inputs]
    is_batch = isinstance(inputs, tuple | list) and all(map(is_picture, inputs))
    return list(inputs) if is_batch else []


def stacked(samples: Sequence[Tensor]) -> Tensor:
    """One batch of several samples.

    Raises:
        DataError: they differ in shape.
    """
    if len(shapes := {tuple(x.shape) for x in samples}) > 1:
        raise DataError(
            f"samples of one batch must have one shape; seen {sorted(shapes)}: bring them to one "
            "size, or give a DataLoader that pads them"
        )
    return torch.stack(list(samples))


def tensor_of(x: NDArray[Any]) -> Tensor:
    """A tensor of an array; a copy if torch cannot read the array, or it is read-only."""
    native = x.astype(x.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements=("C", "W")))


def as_tensor(x: Any) -> Tensor:
    """A tensor as it is; other values as one on the CPU, whatever torch's default device."""
    return x if isinstance(x, Tensor) else torch.as_tensor(x, device="cpu")


def channels_first(x: Tensor) -> Tensor:
    """Arrays of pictures ``(n, h, w, 3)`` as ``(n, 3, h, w)``, where the shape is unambiguous."""
    channels_last = x.dtype == torch.uint8 and x.ndim == 4 and x.shape[3] in (1, 3)
    return x.permute(0, 3, 1, 2) if channels_last and x.shape[1] not in (1, 3) else x


def is_picture(x: Any) -> bool:
    """Whether it is a picture of Pillow, told without importing Pillow."""
    # A mapping may raise any error for an attribute that it lacks.
    return not isinstance(x, Mapping) and hasattr(x, "getbands") and hasattr(x, "convert")


def is_array(x: Any) -> TypeGuard[Any]:
    """Whether it is a tensor or an array of numpy."""
    return isinstance(x, Tensor | np.ndarray)
