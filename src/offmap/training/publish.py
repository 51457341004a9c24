"""A finished run as a network of the zoo."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from offmap.data import ImageSet
from offmap.errors import ArgumentError, DataError, StoreError
from offmap.forward import Probe, forward
from offmap.networks import build, load_weights, zoo
from offmap.training import sets
from offmap.training.folder import CARD, WEIGHTS
from offmap.training.recipe import Recipe


def publish(
    run: str | Path, name: str, *, folder: str | Path = "zoo", overwrite: bool = False
) -> Path:
    """Write the network of a run into a zoo folder, its weights halved, with its card.

    Matrices and kernels are rounded to bfloat16. The card's accuracy is measured anew, in float32,
    on the weights as they are stored.

    Args:
        run: folder of a finished run.
        name: in the zoo.
        folder: the zoo.
        overwrite: replace another network of that name.

    Raises:
        ArgumentError: there is a network of that name.
        StoreError: the run is not finished, or its card cannot be read.
        DataError: the validation data that its recipe names is not what it was validated on.
    """
    run = Path(run)
    if (Path(folder) / f"{name}.json").exists() and not overwrite:
        raise ArgumentError(
            f"{folder} has a network {name} already: choose another name, or --overwrite"
        )
    try:
        card = json.loads((run / CARD).read_text())
        recipe = Recipe.of(card["recipe"])
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{run} holds no finished run: {error}") from error
    network = load_weights(build(recipe.network), run / WEIGHTS)
    _round(network)
    _, validation = sets.known(recipe)
    if validation.fingerprint != card["data"]["validation"]["fingerprint"]:
        raise DataError(
            f"{validation.name} is not the data that {run} was validated on: publish it "
            "where that data is"
        )
    card |= {
        "epochs": recipe.epochs,
        "seed": recipe.seed,
        "accuracy": _accuracy(network, recipe, validation),
    }
    return zoo.add(folder, name, network, card, half=True)


@torch.no_grad()
def _round(network: nn.Module) -> None:
    """To what will be stored."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.copy_(parameter.bfloat16())


def _accuracy(network: nn.Module, recipe: Recipe, validation: ImageSet) -> float:
    right = 0
    with Probe(network, normalization=sets.normalization(recipe.normalization)) as probe:
        for acts, labels in forward(probe, validation, show_progress=False):
            assert labels is not None
            right += int((acts.answers == labels).sum())
    return right / len(validation)
