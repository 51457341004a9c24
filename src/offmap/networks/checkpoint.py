"""Weights from files that others wrote, without running what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from offmap.errors import StoreError

# Where trainers put the weights inside a checkpoint, and what wrappers put before their names.
_PLACES = ("state_dict", "model_state_dict", "model", "net", "network")
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.")


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Load a checkpoint into a network, and return the network.

    Reads safetensors, and PyTorch files that hold tensors only: a bare state dict or one inside a
    dict, with or without ``module.`` before the names. Nothing is unpickled beyond that.

    Args:
        network: must have the same parameters.
        path: the checkpoint.

    Raises:
        StoreError: the file cannot be read safely, or does not fit; lists the first differences.
    """
    path = Path(path)
    weights = _stripped(_read(path), network)
    if differences := _differences(network.state_dict(), weights):
        listed = "\n  ".join(differences[:8])
        raise StoreError(
            f"{path} does not fit {type(network).__name__}; {len(differences)} differences:\n"
            f"  {listed}"
        )
    network.load_state_dict(weights)
    return network


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise StoreError(f"there is no checkpoint at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    # Bytes that are no checkpoint can fail the reader in any way.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(
            f"{path} cannot be read as tensors alone ({reason}): save network.state_dict() from "
            "the program that wrote it, as safetensors or with torch.save"
        ) from error
    return _weights_in(content, path)


def _weights_in(content: Any, path: Path) -> Mapping[str, Tensor]:
    if isinstance(content, Mapping):
        for place in _PLACES:
            if isinstance(content.get(place), Mapping):
                content = content[place]
                break
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return dict(content)
    raise StoreError(f"{path} holds no state dict: a mapping from names to tensors is needed")


def _stripped(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The weights without a prefix that all their names share and the network's do not."""
    known = network.state_dict()
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in weights) and not any(
            name.startswith(prefix) for name in known
        ):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return dict(weights)


def _differences(known: Mapping[str, Tensor], seen: Mapping[str, Tensor]) -> list[str]:
    # Files from before PyTorch 0.4 lack this counter, which evaluation does not use.
    missing = [k for k in known if k not in seen and not k.endswith("num_batches_tracked")]
    wrong = [k for k in known if k in seen and known[k].shape != seen[k].shape]
    return [
        *(f"{k}: shape {tuple(seen[k].shape)}, not {tuple(known[k].shape)}" for k in wrong),
        *(f"{k}: missing" for k in missing),
        *(f"{k}: unexpected" for k in seen if k not in known),
    ]
