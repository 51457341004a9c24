"""Scores as the metrics take them: one-dimensional arrays of finite real numbers."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from offmap.errors import ArgumentError, DataError, NonFiniteError, ShapeError

Scores: TypeAlias = Tensor | NDArray[Any] | Sequence[float]

# Above this, float64 skips integers: two different scores could become equal.
_LARGEST_INTEGER = 2**53
_NAMED = 5


def as_scores(
    id_scores: Scores, ood_scores: Scores
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    """Both arrays in float32 if both are float32, else in float64: no score is ever rounded.

    Raises:
        ShapeError: an array is not one-dimensional.
        DataError: an array is empty, or holds something float64 cannot hold exactly.
        NonFiniteError: an array holds NaN or infinity.
    """
    in_dist, ood = as_array(id_scores, "id_scores"), as_array(ood_scores, "ood_scores")
    if in_dist.dtype == ood.dtype:
        return in_dist, ood
    return in_dist.astype(np.float64, copy=False), ood.astype(np.float64, copy=False)


def as_array(scores: Scores, name: str) -> Float[np.ndarray, " n"]:
    """One array, in float32 if it is float32, else in float64; raises what ``as_scores`` raises."""
    if isinstance(scores, Tensor):
        # NumPy has no bfloat16 or float8; every one of their values is a float64.
        if scores.is_floating_point() and scores.dtype != torch.float32:
            scores = scores.detach().cpu().double()  # on the CPU first: MPS has no float64
        scores = scores.numpy(force=True)
    array = _as_numpy(scores, name)
    if array.ndim != 1:
        raise ShapeError(f"{name} must have one dimension, but its shape is {array.shape}.")
    if array.size == 0:
        raise DataError(f"{name} is empty: a metric needs at least one score in it.")
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise DataError(f"{name} holds {array.dtype}: give real numbers of at most 64 bits.")
    # In Python's integers: the absolute value of the lowest int64 is not an int64.
    if array.dtype.kind in "iu" and max(-int(array.min()), int(array.max())) > _LARGEST_INTEGER:
        raise DataError(f"{name} holds integers beyond 2**53, which float64 cannot tell apart.")
    finite = np.isfinite(array)
    if not finite.all():
        indices = np.flatnonzero(~finite)
        listing = ", ".join(map(str, indices[:_NAMED])) + (", ..." if len(indices) > _NAMED else "")
        raise NonFiniteError(
            f"{name} holds NaN or infinity in {len(indices)} of {len(array)} places "
            f"(index {listing}): look at what computed these scores."
        )
    return array if array.dtype == np.float32 else array.astype(np.float64, copy=False)


def as_mask(right: ArrayLike, length: int) -> Bool[np.ndarray, " n"]:
    """Truth values, one a score.

    Raises:
        ShapeError: they are not truth values, or not one a score.
    """
    mask = right.numpy(force=True) if isinstance(right, Tensor) else _as_numpy(right, "right")
    if mask.shape != (length,) or mask.dtype != bool:
        raise ShapeError(
            f"right must be {length} truth values, one a score; seen {mask.dtype} of shape "
            f"{mask.shape}"
        )
    return mask


def accepted(scores: Float[np.ndarray, " n"], threshold: float) -> Bool[np.ndarray, " n"]:
    """Where ``score <= threshold``.

    Raises:
        ArgumentError: the threshold is no number.
    """
    number = np.ndim(threshold) == 0 and isinstance(threshold, Real | Tensor)
    if not number or np.isnan(limit := float(threshold)):
        raise ArgumentError(f"threshold must be a number, or infinite; seen {threshold!r}")
    # In float64: beside float32 scores NumPy would round the threshold to float32.
    return scores.astype(np.float64, copy=False) <= limit


def _as_numpy(values: Any, name: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of several lengths, or numbers beside lists
        raise ShapeError(f"{name} must hold one number a sample: {error}") from error
