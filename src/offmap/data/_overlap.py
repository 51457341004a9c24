"""Samples that are in two sets."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt64

from offmap._utils.hashes import hashes_of
from offmap._utils.inputs import batches_of
from offmap.data.types import BatchedSet, Batches
from offmap.errors import ShapeError

_BATCH = 256


def overlap(a: Batches, b: Batches) -> int:
    """How many samples of ``b`` are also in ``a``, value for value.

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
        >>> import torch
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
    batches = data.batches(_BATCH) if isinstance(data, BatchedSet) else batches_of(data, _BATCH)
    for inputs, _ in batches:
        yield hashes_of(inputs)
