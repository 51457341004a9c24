"""Hashes of samples, by which those that are in two sets are found."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import torch
from jaxtyping import UInt64
from torch import Tensor

from offmap._utils.inputs import Inputs


def hashes_of(inputs: Inputs, *, at_most: int | None = None) -> UInt64[np.ndarray, " n"]:
    """A hash of each sample's types, shapes and values.

    Args:
        inputs: of ``n`` samples.
        at_most: number of bytes of a sample to hash, evenly spaced; by default all.
    """
    tensors = {"": inputs} if isinstance(inputs, Tensor) else inputs
    kinds = " ".join(f"{x.dtype} {tuple(x.shape[1:])}" for _, x in sorted(tensors.items())).encode()
    columns = []
    for name in sorted(tensors):
        x = tensors[name].detach()
        flat = x.reshape(len(x), x.shape[1:].numel())  # not -1, which no samples leave open
        step = max(1, -(-flat.shape[1] * flat.element_size() // at_most)) if at_most else 1
        columns.append(flat[:, ::step].cpu().contiguous().view(torch.uint8).numpy())
    hashes = []
    for row in zip(*columns, strict=True):
        digest = blake2b(kinds, digest_size=8)
        for values in row:
            digest.update(values.data)
        hashes.append(int.from_bytes(digest.digest(), "little"))
    return np.array(hashes, np.uint64)
