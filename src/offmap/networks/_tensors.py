"""The weights of the zoo: as they are stored, and as they are read back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from torch import Tensor, nn

from offmap.errors import ArgumentError, StoreError
from offmap.networks.checkpoint import fitting
from offmap.networks.library import build_own


def stored(spec: Any, network: nn.Module, half: bool, where: str) -> dict[str, Tensor]:
    """The weights of a network under the names of the one that its card says."""
    weights = fitting(outline(str(spec), where), network.state_dict(), where)
    return {key: _as_stored(value, half) for key, value in weights.items()}


def _as_stored(value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu()
    if value.is_floating_point():
        value = value.to(torch.bfloat16 if half and value.ndim > 1 else torch.float32)
    return value.clone().contiguous()


def read_checked(path: Path, digest: str) -> dict[str, Tensor]:
    """The tensors of a file whose hash is this one; hashed and read from the same bytes."""
    try:
        content = path.read_bytes()
        if (seen := hashlib.sha256(content).hexdigest()) != digest:
            raise StoreError(
                f"{path} is damaged, or not the file of its card: its sha256 is {seen}, and the "
                f"card says {digest}"
            )
        return dict(tensors_from(content))
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error


def outline(spec: str, where: str) -> nn.Module:
    """The network of a card, without memory for its weights."""
    try:
        with torch.device("meta"):
            return build_own(spec)
    except ArgumentError as error:
        raise StoreError(f"the card of {where}: {error}") from error


def count(network: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
