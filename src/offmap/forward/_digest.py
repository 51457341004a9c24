"""A hash of a network's weights."""

from __future__ import annotations

import hashlib
import re
from io import BytesIO
from typing import Any

import torch
from torch import Tensor, nn


def weights_digest(network: nn.Module) -> str:
    """SHA-256 over names, types, shapes and values of all parameters and buffers."""
    digest = hashlib.sha256()
    # By name: loaded buffers are in another order than learned ones.
    state: dict[str, Any] = network.state_dict()
    for name, tensor in sorted(state.items()):
        if not isinstance(tensor, Tensor):  # extra state, such as that of quantised layers
            digest.update(f"{name} {_text(tensor)}".encode())
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes_of(tensor).numpy().data)
    return digest.hexdigest()


def _text(value: Any) -> str:
    """The content of a value, without addresses in memory, which differ in each process."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(k)}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_text, value)) + (",)" if len(value) == 1 else ")")
    if isinstance(value, set | frozenset):  # in another order in each process
        return "{" + ", ".join(sorted(map(_text, value))) + "}"
    if isinstance(value, Tensor) and not value.is_quantized:
        content = hashlib.sha256(_bytes_of(value).numpy().data).hexdigest()
        return f"{value.dtype} {tuple(value.shape)} {content}"
    value = value.getvalue() if isinstance(value, BytesIO) else value
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _bytes_of(x: Tensor) -> Tensor:
    return x.detach().cpu().contiguous().flatten().view(torch.uint8)
