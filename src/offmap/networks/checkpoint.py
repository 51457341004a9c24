"""Weights from foreign checkpoints, whose code is never run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from offmap.errors import StoreError
from offmap.networks._refusals import check_kind, unreadable

# Keys of the weights inside a checkpoint, and prefixes that wrappers add to their names.
_PLACES = ("state_dict", "model_state_dict", "model", "net", "network")
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.", "backbone.")
# Other names of the same layers: in PixMix's wide networks, in other ResNets, and of a linear head
# after dropout in a Sequential.
_ALIASES = (
    (".conv_shortcut.", ".convShortcut."),
    (".shortcut.", ".downsample."),
    ("linear.", "fc."),
    ("fc.", "linear."),
    ("fc.1.", "fc."),
)


def load_weights(network: nn.Module, path: str | Path) -> nn.Module:
    """Load a checkpoint into a network, and return the network.

    Reads safetensors, and PyTorch files that hold tensors only: a bare state dict or one inside a
    dict, with or without ``module.`` before the names. Nothing is unpickled beyond that. Half
    precision becomes the precision of the network. The names of the published CIFAR ResNets, wide
    networks (Outlier Exposure, PixMix) and usual ResNet-18s are known.

    Args:
        network: must have the same parameters.
        path: the checkpoint.

    Raises:
        StoreError: the file cannot be read safely, is of TensorFlow, or does not fit; lists the
            first differences.
    """
    path = Path(path)
    return place(network, read_weights(path), str(path))


def place(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> nn.Module:
    """Load weights under any of the known names; a network that they do not fit stays as it was.

    Raises:
        StoreError: they do not fit; lists the first differences.
    """
    # Copying casts to the network's own precision.
    network.load_state_dict(fitting(network, weights, where))
    return network


def fitting(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The weights under the names of a network.

    Raises:
        StoreError: they do not fit; lists the first differences.
    """
    target = network.state_dict()
    renamed = _rename(_strip_prefixes(weights, target), target)
    # Files from before PyTorch 0.4 lack this counter, which evaluation does not use.
    missing = [k for k in target if k not in renamed and not k.endswith("num_batches_tracked")]
    common = [k for k in target if k in renamed]
    reshaped = [k for k in common if target[k].shape != renamed[k].shape]
    # Quantised integers would be cast silently, to other values.
    floats = [k for k in common if target[k].is_floating_point()]
    quantised = [k for k in floats if not renamed[k].is_floating_point()]
    differences = [
        *(f"{k}: shape {tuple(renamed[k].shape)}, not {tuple(target[k].shape)}" for k in reshaped),
        *(f"{k}: {renamed[k].dtype}, not {target[k].dtype}" for k in quantised),
        *(f"{k}: missing" for k in missing),
        *(f"{k}: unexpected" for k in renamed if k not in target),
    ]
    if differences:
        listed = "\n  ".join(differences[:8])
        raise StoreError(
            f"{where} does not fit {type(network).__name__}; {len(differences)} differences:\n"
            f"  {listed}"
        )
    return renamed


def other_classes(network: nn.Module, weights: Mapping[str, Tensor]) -> int | None:
    """The number of classes of a checkpoint, where it is not the network's.

    Args:
        network: whose last matrix is that of its head.
        weights: of the checkpoint, under any of the known names.
    """
    target = network.state_dict()
    head = next((name for name in reversed(target) if target[name].ndim == 2), "")
    value = _rename(_strip_prefixes(weights, target), target).get(head)
    if value is None or value.shape[1:] != target[head].shape[1:]:
        return None
    return None if len(value) == len(target[head]) else len(value)


def read_weights(path: str | Path) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint by their names in it.

    Raises:
        StoreError: the file cannot be read safely, or holds none.
    """
    path = Path(path)
    check_kind(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    # Bytes that are no checkpoint can fail the reader in any way.
    except Exception as error:
        raise unreadable(path, error) from error
    if isinstance(content, Mapping):
        for key in _PLACES:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return {str(name): value for name, value in content.items()}
    raise StoreError(f"{path} holds no state dict: a mapping from names to tensors is needed")


def _strip_prefixes(
    weights: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights without prefixes that all their names share and the network's names lack."""
    prefixes = [p for p in _PREFIXES if not any(name.startswith(p) for name in target)]
    while shared := [p for p in prefixes if weights and all(n.startswith(p) for n in weights)]:
        weights = {name.removeprefix(shared[0]): value for name, value in weights.items()}
    return dict(weights)


def _rename(weights: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the network's names, by known aliases; other names stay."""
    result = {}
    for name, value in weights.items():
        aliases = [name.replace(foreign, local) for foreign, local in _ALIASES]
        matches = (o for o in aliases if o in target and o not in weights)
        result[name if name in target else next(matches, name)] = value
    return result
