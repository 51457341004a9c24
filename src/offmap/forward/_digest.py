"""What a network is, as a hash."""

from __future__ import annotations

import hashlib
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
            digest.update(f"{name} {tensor!r}".encode())
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(content.numpy().data)
    return digest.hexdigest()
