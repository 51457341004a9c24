"""What a demo is made of: known images in three parts, pictures of other things, a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, TypeVar

from safetensors import safe_open
from torch import nn

from offmap.data import ImageSet
from offmap.networks import load_weights
from offmap.networks.card import Card, read

FAR = ("faces", "textures", "photographs", "text")
FAR28 = ("textures", "photographs", "faces")
_FILES = {8: "pictures.safetensors", 28: "pictures28.safetensors"}
_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True)
class Parts:
    """The known images in three disjoint parts, and the OOD sets by group and name."""

    train: ImageSet
    calibration: ImageSet
    test: ImageSet
    ood: dict[str, dict[str, ImageSet]]


def pictures(name: str, *, size: int = 8) -> ImageSet:
    """Some of the grey pictures that ``data.embedded(name, size=size)`` makes.

    They are kept here so that the demo needs no more than the library does;
    ``scripts/demo_pictures.py`` made them.

    Args:
        name: one of ``FAR``, of which 300 are kept; with 28 pixels of ``FAR28``, at most 150.
        size: 8 or 28.
    """
    with as_file(files("offmap.demo") / _FILES[size]) as path, safe_open(path, "pt") as file:
        images, rows = file.get_tensor(name), file.get_tensor(f"{name}.rows")
        metadata = file.metadata()
    keys = tuple(map(str, rows.tolist()))
    transform = metadata[f"{name}.transform"]
    return ImageSet(metadata[name], images, transform=transform, sample_keys=keys)


def train_network(
    train: ImageSet,
    validation: ImageSet,
    out: str | Path,
    changes: Mapping[str, Any] | None,
    command: str,
) -> nn.Module:
    """A network trained by the recipe ``digits`` with changes, in a folder of its own.

    Raises:
        MissingExtraError: lightning or kornia is not installed.
    """
    from offmap import training  # here: a demo itself needs none of it

    recipe = training.recipe("digits", changes=changes)
    return training.train(
        recipe,
        out,
        sets=training.Sets.of(recipe, train, validation),
        resume=True,
        device="cpu",
        settings={"command": command},
    )


def with_weights(network: _Network, name: str) -> _Network:
    """The network with weights in the package, in evaluation mode."""
    with as_file(files("offmap.demo") / name) as path:
        load_weights(network, path)
    return network.eval()


def card_of(name: str) -> Card:
    """The card of weights in the package."""
    with as_file(files("offmap.demo") / name) as path:
        return read(path)
