"""Networks that the project has trained: ``NAME.safetensors`` beside its card, ``NAME.json``.

A name is looked up in ``$OFFMAP_ZOO``, in ``zoo/`` of a clone or of the working directory, and on
the Hugging Face hub. What a card holds is in :class:`offmap.networks.card.Card`. It chooses no
code: it may name networks of this library alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from offmap._utils import records
from offmap.errors import ArgumentError, StoreError
from offmap.networks._places import HUB, check_name, find, folders
from offmap.networks.card import WEIGHTS, Card, check_own, parameter_count, read
from offmap.networks.checkpoint import fitting, place
from offmap.networks.library import build_own

__all__ = ["HUB", "PREFIX", "add", "card", "load", "names"]

PREFIX = "zoo:"
# Fields that the caller must give; the others are added, or may be left out.
_REQUIRED = (
    *("network", "normalization", "data", "recipe", "budget"),
    *("epochs", "seed", "command", "machine", "accuracy"),
)


def names() -> list[str]:
    """The networks in local folders; the hub is not asked."""
    cards = (path for folder in folders() for path in folder.glob("*.json"))
    return sorted({p.stem for p in cards if p.with_suffix(".safetensors").is_file()})


def card(name: str) -> Card:
    """The card of a network, checked.

    Raises:
        UnknownNameError: there is none; names the places where it was looked for.
        MissingExtraError: it is not at hand, and huggingface_hub is not installed.
        StoreError: it cannot be read, lacks something, or names a network of elsewhere.
    """
    return read(find(name, ".json"))


def load(name: str) -> nn.Module:
    """The network of a name with its weights, in evaluation mode.

    Raises:
        UnknownNameError: there is none; names the places where it was looked for.
        MissingExtraError: it is not at hand, and huggingface_hub is not installed.
        StoreError: the weights are missing, are not those of the card, or do not fit its network.
    """
    record = card(name)
    path = find(name, ".safetensors")
    weights = records.read_tensors(path, record.files[WEIGHTS].sha256)
    # On the meta device first: a card may ask for more classes than memory can hold.
    outline = _outline(record.network, str(path))
    fitting(outline, weights, str(path))
    if (count := parameter_count(outline)) != record.parameters:
        raise StoreError(f"the card of {path} says {record.parameters} parameters, not {count}")
    return place(build_own(record.network), weights, str(path)).eval()


def add(
    folder: str | Path,
    name: str,
    network: nn.Module,
    card: Mapping[str, Any],
    *,
    half: bool = False,
) -> Path:
    """Write a trained network and its card into a zoo folder.

    Args:
        folder: an older network of that name is replaced, as the new card says; a process that is
            killed meanwhile leaves a card whose hash does not fit, which is refused on loading.
        name: letters, digits, dots, dashes and underscores.
        network: trained; of the kind that ``card["network"]`` says.
        card: what :class:`~offmap.networks.card.Card` holds, budget and command with it; the number
            of parameters is added.
        half: store the weights of convolutions and linear layers as bfloat16. Everything
            one-dimensional (batch normalisation, biases) stays float32. State the accuracy of the
            network as it is read back.

    Returns:
        The file of weights.

    Raises:
        ArgumentError: the name or the card is not as above.
        StoreError: the network is not the one that the card says.
    """
    check_name(name)
    path = Path(folder) / f"{name}.safetensors"
    if absent := [key for key in _REQUIRED if key not in card]:
        raise ArgumentError(f"the card of {name} lacks {', '.join(absent)}")
    try:
        content = json.loads(json.dumps(dict(card), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"the card of {name} holds what JSON cannot: {error}") from error
    check_own(content["network"], f"the card of {name}")
    outline = _outline(content["network"], str(path))
    weights = fitting(outline, network.state_dict(), str(path))
    tensors = {key: as_stored(value, half=half) for key, value in weights.items()}
    content["parameters"] = parameter_count(network)
    with suppress(StoreError):  # there is none to replace, or it is unreadable
        old = read(path.with_suffix(".json"))
        content["replaces"] = {"sha256": old.files[WEIGHTS].sha256, "accuracy": old.accuracy}
    records.write(
        *(folder, "card", content, {WEIGHTS: tensors}),
        stem=name,
        names={WEIGHTS: path.name},
        schema=Card,
    )
    return path


def as_stored(value: Tensor, *, half: bool) -> Tensor:
    """A parameter or buffer in the precision in which :func:`add` writes it."""
    if not value.is_floating_point():
        return value
    return value.to(torch.bfloat16 if half and value.ndim > 1 else torch.float32)


def _outline(spec: str, where: str) -> nn.Module:
    """The network of a card on the meta device, without memory for its weights."""
    try:
        with torch.device("meta"):
            return build_own(spec)
    except ArgumentError as error:
        raise StoreError(f"the card of {where}: {error}") from error
