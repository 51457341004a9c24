"""Samples that stand in two sets."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt64
from torch import Tensor

from offmap.data.types import BatchedSet, Batches, Inputs
from offmap.errors import ArgumentError, ShapeError

_BATCH = 256
_IMAGE = ("images", "image", "pixel_values", "x")  # what loaders call them
_LABEL = ("labels", "label", "y")


def overlap(a: Batches, b: Batches) -> int:
    """How many samples of ``b`` also stand in ``a``, value for value.

    A test set with images of the training set measures what was learned by heart; an OOD set with
    images of the ID set measures nothing. Samples are compared as they are fed to the network, by a
    hash of type, shape and values. Only the hashes of ``a`` are held in memory, 8 bytes a sample;
    two different samples share one with a chance of at most ``len(a) * len(b) / 2**64``.

    Args:
        a: a set, or any iterable of batches.
        b: likewise. Each is read once.

    Returns:
        The number of samples of ``b``, repeated ones counted as often as they stand there.

    Raises:
        ShapeError: two sets of images of different shapes, which could not be equal: bring them to
            one shape by :func:`load_like`.

    Example:
        >>> from offmap.data import ImageSet, overlap
        >>> images = torch.arange(12, dtype=torch.uint8).reshape(3, 1, 2, 2)
        >>> overlap(ImageSet("a", images), ImageSet("b", images[[2, 0]]))
        2
    """
    shapes = [getattr(data, "shape", None) for data in (a, b)]
    if None not in shapes and shapes[0] != shapes[1]:
        raise ShapeError(
            f"images of {shapes[0]} and of {shapes[1]} cannot be the same: load one like the other"
        )
    collection = array("Q")
    for hashes in _hashes(a):
        collection.frombytes(hashes.tobytes())
    # Sorted, because a set of Python's own integers would take eight times the memory.
    table = np.unique(np.frombuffer(collection, np.uint64))
    if not len(table):
        return 0
    count = 0
    for hashes in _hashes(b):
        rows = np.searchsorted(table, hashes).clip(max=len(table) - 1)
        count += int((table[rows] == hashes).sum())
    return count


def _hashes(data: Batches) -> Iterator[UInt64[np.ndarray, " n"]]:
    for batch in data.batches(_BATCH) if isinstance(data, BatchedSet) else data:
        yield np.fromiter(map(_hash, _samples(_inputs(batch))), np.uint64)


def _inputs(batch: Any) -> Inputs:
    """What a network is given of a batch, without the labels."""
    inputs = batch[0] if isinstance(batch, tuple | list) else batch
    if isinstance(inputs, Mapping):
        tensors = {name: x for name, x in inputs.items() if isinstance(x, Tensor)}
        image = next((tensors[name] for name in _IMAGE if name in tensors), None)
        text = {name: x for name, x in tensors.items() if name not in _LABEL}
        inputs = text if image is None else image
    if not isinstance(inputs, Tensor | dict) or not len(inputs):
        raise ArgumentError(
            "a batch must be inputs, or inputs and labels, with tensors inside; seen "
            f"{type(batch).__name__}"
        )
    return inputs


def _samples(inputs: Inputs) -> Iterator[tuple[Tensor, ...]]:
    """The tensors of each sample, in the order of their names where they have any."""
    if isinstance(inputs, Tensor):
        return ((sample,) for sample in inputs.detach().cpu().contiguous())
    tensors = [inputs[name].detach().cpu().contiguous() for name in sorted(inputs)]
    return zip(*tensors, strict=True)


def _hash(sample: tuple[Tensor, ...]) -> int:
    digest = blake2b(digest_size=8)
    for x in sample:
        digest.update(f"{x.dtype} {tuple(x.shape)} ".encode())
        digest.update(x.reshape(-1).view(torch.uint8).numpy().data)
    return int.from_bytes(digest.digest(), "little")
