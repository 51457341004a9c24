"""Networks that the project has trained: ``NAME.safetensors`` beside its card, ``NAME.json``.

A name is looked up in ``$OFFMAP_ZOO``, in ``zoo/`` of a clone or of the working directory, and on
the Hugging Face hub. A card holds:

========================= ====================================================================
``network``               the network, of this library: ``wrn40_2`` or ``wrn40_2(dropout=0.3)``
``normalization``         ``{"mean": [...], "std": [...]}`` of each channel, in [0, 1]; or
                          ``{"per_image": true}``
``data``                  what it was trained on
``recipe``                object: the settings of the training
``budget``                smoke, cpu or full
``epochs``, ``seed``      as trained
``command``               what trained it
``machine``               kind of machine, and how long it took
``accuracy``              on the ID test set, in [0, 1], of the weights as stored
``sha256``                of the file of weights
``parameters``            how many there are
========================= ====================================================================

A card chooses no code: it may only name a network of this library.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save as tensors_to
from torch import nn

from offmap._utils.files import atomic, write_json
from offmap.errors import ArgumentError, StoreError
from offmap.networks._card import GIVEN, checked, read
from offmap.networks._places import HUB, check_name, find, folders
from offmap.networks._tensors import count, outline, read_checked, stored
from offmap.networks.checkpoint import fitting, place
from offmap.networks.library import build_own

__all__ = ["HUB", "PREFIX", "add", "card", "load", "names", "normalization"]

PREFIX = "zoo:"


def names() -> list[str]:
    """The networks at hand: those of the hub are not asked for."""
    cards = (path for folder in folders() for path in folder.glob("*.json"))
    return sorted({p.stem for p in cards if p.with_suffix(".safetensors").is_file()})


def card(name: str) -> dict[str, Any]:
    """The card of a network, checked.

    Raises:
        UnknownNameError: there is none; names the places where it was looked for.
        MissingExtraError: it is not at hand, and huggingface_hub is not installed.
        StoreError: it cannot be read, lacks something, or names a network of elsewhere.
    """
    return read(find(name, ".json"))


def normalization(name: str) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """What a network was trained with: the arguments of :class:`offmap.Normalization`, in turn."""
    stated = card(name)["normalization"]
    mean, std = (tuple(stated.get(key, usual)) for key, usual in (("mean", [0.0]), ("std", [1.0])))
    return mean, std, stated.get("per_image", False)


def load(name: str) -> nn.Module:
    """The network of a name with its weights, in evaluation mode.

    Raises:
        UnknownNameError: there is none; names the places where it was looked for.
        MissingExtraError: it is not at hand, and huggingface_hub is not installed.
        StoreError: the weights are missing, are not those of the card, or do not fit its network.
    """
    stated = card(name)
    path = find(name, ".safetensors")
    weights = read_checked(path, stated["sha256"])
    # Without memory first: a card may ask for more classes than any machine has room for.
    shape = outline(stated["network"], str(path))
    fitting(shape, weights, str(path))
    if (seen := count(shape)) != stated["parameters"]:
        raise StoreError(f"the card of {path} says {stated['parameters']} parameters, not {seen}")
    return place(build_own(stated["network"]), weights, str(path)).eval()


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
        folder: an older network of that name is replaced; whoever is killed meanwhile leaves a card
            whose hash does not fit, which is refused on loading.
        name: letters, digits, dots, dashes and underscores.
        network: trained; of the kind that ``card["network"]`` says.
        card: all keys of the module's table but the last two, which are added.
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
    if missing := [key for key in GIVEN if key not in card]:
        raise ArgumentError(f"the card of {name} lacks {', '.join(missing)}")
    try:
        content = json.loads(json.dumps(dict(card), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"the card of {name} holds what JSON cannot: {error}") from error
    weights = tensors_to(stored(content["network"], network, half, str(path)))
    content |= {"sha256": hashlib.sha256(weights).hexdigest(), "parameters": count(network)}
    checked(content, f"the card of {name}")
    with atomic(path) as temporary:
        temporary.write_bytes(weights)
    write_json(path.with_suffix(".json"), content)
    return path
