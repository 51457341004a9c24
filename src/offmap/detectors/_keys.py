"""Keys of samples as a buffer, which name the rows of a bank."""

from __future__ import annotations

import json

import torch
from torch import Tensor


def packed_keys(keys: tuple[str, ...] | None) -> Tensor:
    """The keys as bytes of JSON; empty where there are none."""
    text = b"" if keys is None else json.dumps(keys).encode()
    return torch.tensor(list(text), dtype=torch.uint8, device="cpu")


def unpacked_keys(packed: Tensor) -> tuple[str, ...] | None:
    """The inverse of :func:`packed_keys`.

    >>> unpacked_keys(packed_keys(("a.png", "b.png")))
    ('a.png', 'b.png')
    """
    return tuple(json.loads(bytes(packed.tolist()))) if len(packed) else None
