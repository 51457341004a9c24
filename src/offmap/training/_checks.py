"""Checks before anything is written: do network, data and options of a run fit together?"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from offmap.activations import HasMembers
from offmap.errors import ArgumentError, LabelError, ShapeError, UnknownNameError
from offmap.forward import Normalization, as_device
from offmap.training.recipe import Recipe
from offmap.training.sets import Sets

_PIXMIX = ("mixing_set", "k", "beta", "severity")


def check_devices(recipe: Recipe, device: str | None, devices: int) -> torch.device | None:
    """Check that each of several devices gets images; returns the one that was named, if any.

    Raises:
        ArgumentError: a batch has fewer images than there are devices; or one of several of a kind
            is named, and more are asked for; or there is no such device.
    """
    for name in ("batch_size", "outlier_batch", "contrast_batch"):
        if (size := getattr(recipe, name)) is not None and size < devices:
            raise ArgumentError(
                f"{name} of {size} leaves some of {devices} devices without images: give at least "
                "one for each"
            )
    as_device(device)  # refuses in words; Lightning shows a traceback
    accelerator = None if device is None else torch.device(device)
    if accelerator is not None and accelerator.index is not None and devices > 1:
        raise ArgumentError(
            f"{accelerator} is one device, and {devices} are asked for: name "
            f"{accelerator.type} alone"
        )
    return accelerator


def check_outputs(network: nn.Module, sets: Sets, normalization: Normalization) -> None:
    """Run two images, and compare the labels with the network's outputs.

    Raises:
        ShapeError: the network does not take these images, or its members differ in classes.
        LabelError: there are labels beyond its outputs.
    """
    classes, name = _outputs(network, sets, normalization), type(network).__name__
    for part in (sets.train, sets.validation):
        assert part.labels is not None
        highest = int(part.labels.max())
        if highest >= classes:
            raise LabelError(
                f"labels of {part.name} go up to {highest}, and the network {name} has "
                f"{classes} outputs: give it classes={highest + 1}"
            )
        if part is sets.train and highest + 1 < classes:
            warnings.warn(
                f"{name} has {classes} outputs, and labels of {part.name} go up to "
                f"{highest}: is classes={highest + 1} meant?",
                stacklevel=4,
            )


@torch.no_grad()
def _outputs(network: nn.Module, sets: Sets, normalization: Normalization) -> int:
    members = network.members if isinstance(network, HasMembers) else [network]
    outputs = set()
    try:
        images = normalization(sets.train.images[:2])
        network.eval()
        for member in members:
            output = member(images)
            if not isinstance(output, Tensor) or output.ndim != 2:
                kind = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise ShapeError(
                    "training takes networks that return logits, a tensor of shape (n, classes); "
                    f"{type(member).__name__} returned {kind}"
                )
            outputs.add(output.shape[1])
    except RuntimeError as error:
        shape = "x".join(map(str, sets.train.shape))
        raise ShapeError(
            f"{type(network).__name__} does not take images of {shape} "
            f"({str(error).splitlines()[0]}): set size or channels, or choose another network"
        ) from error
    network.train()
    if len(outputs) > 1:
        raise ShapeError(
            "the members of an ensemble must have the same classes; seen members of "
            f"{', '.join(map(str, sorted(outputs)))} outputs"
        )
    return outputs.pop()


@torch.no_grad()
def in_fastest_layout(
    network: nn.Module, sets: Sets, normalization: Normalization
) -> tuple[nn.Module, torch.memory_format]:
    """The network in channels last, which is faster, unless it refuses that; and that layout.

    One that flattens feature maps by ``view`` runs in the usual layout alone.
    """
    images = normalization(sets.train.images[:2])
    members = network.members if isinstance(network, HasMembers) else [network]
    network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    layout = torch.channels_last
    try:
        for member in members:
            member(images.contiguous(memory_format=layout))
    except (RuntimeError, ValueError, AssertionError):  # the same images went through before
        layout = torch.contiguous_format
    return network.to(memory_format=layout).train(), layout  # type: ignore[call-overload]


def check_objective(recipe: Recipe, network: nn.Module, sets: Sets) -> None:
    """Check that the objective fits network and images.

    Raises:
        ArgumentError: it is not one for this network.
        ShapeError: the images cannot be cut into its patches.
    """
    members = len(network.members) if isinstance(network, HasMembers) else 0
    if recipe.objective == "outlier_exposure" and members:
        raise ArgumentError("outlier_exposure trains one network: take disagreement for ensembles")
    if recipe.objective == "disagreement" and members < 2:
        raise ArgumentError(
            "disagreement needs an ensemble of two members or more, such as "
            f"ensemble(network='vgg16', members=2); seen {type(network).__name__}"
        )
    if recipe.contrast == "shuffle":
        _, height, width = sets.train.shape
        if height % (grid := recipe.contrast_grid) or width % grid:
            raise ShapeError(
                f"images of {height}x{width} cannot be cut into {grid}x{grid} equal patches: give "
                "a contrast_grid that divides both sides"
            )


def check_augmentation(recipe: Recipe, sets: Sets) -> None:
    """Check that the augmentations fit the images.

    Raises:
        ArgumentError: colours are to be changed, and there are none.
    """
    if any(recipe.jitter[2:]) and sets.train.shape[0] != 3:
        brightness, contrast = recipe.jitter[:2]
        raise ArgumentError(
            "jitter of saturation and hue changes colours, and the images of "
            f"{sets.train.name} have none: set jitter to [{brightness}, {contrast}, 0, 0]"
        )


def pixmix_options(recipe: Recipe) -> dict[str, Any]:
    """The options of PixMix in a recipe.

    Raises:
        UnknownNameError: it has no such option.
    """
    for name in recipe.pixmix:
        if name not in _PIXMIX:
            raise UnknownNameError(f"pixmix has no option {name!r}: it has {', '.join(_PIXMIX)}")
    return {name: value for name, value in recipe.pixmix.items() if name != "mixing_set"}
