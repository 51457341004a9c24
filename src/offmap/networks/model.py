"""Networks from their names on a command line."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from offmap._utils.imports import imported
from offmap._utils.spec import Spec
from offmap.errors import ArgumentError, UnknownNameError
from offmap.networks import zoo
from offmap.networks.checkpoint import fitting, other_classes, place, read_weights
from offmap.networks.libraries import build_of_library, is_of_library
from offmap.networks.library import build_own, factories, spec_of


def build(spec: str, *, weights: str | Path | None = None) -> nn.Module:
    """The network that a command line names.

    Args:
        spec: the name of a network of this library, such as ``resnet20`` or
            ``wrn40_2(dropout=0.3)``; ``package.module:factory`` or ``file.py:factory``, with
            arguments likewise; or, trained and in evaluation mode, ``zoo:NAME``, ``timm:NAME`` or
            ``hf:OWNER/NAME``, see :func:`build_of_library`. Arguments are plain values by name; the
            text is never run.
        weights: checkpoint to load into it. A network of this library, for which ``spec`` names no
            ``classes``, has as many as the checkpoint.

    Raises:
        UnknownNameError: no such module, factory, or trained network.
        MissingExtraError: the network is of a library that is not installed.
        ArgumentError: the arguments are not those of the factory.
        StoreError: the weights do not fit.
    """
    if spec.startswith(zoo.PREFIX):
        if weights is not None:
            raise ArgumentError(
                f"{spec} brings its own weights: leave {weights} out, or name the network itself "
                f"({zoo.card(spec.removeprefix(zoo.PREFIX)).network})"
            )
        return zoo.load(spec.removeprefix(zoo.PREFIX))
    network: Any
    if is_of_library(spec):
        network = build_of_library(spec, trained=weights is None)
    elif not (parsed := spec_of(spec)).place:
        network = build_own(parsed)
    else:
        factory = imported(parsed.place, parsed.name, spec)
        if isinstance(factory, nn.Module):
            raise ArgumentError(
                f"{spec}: {parsed.name} is a network itself; name a function without arguments "
                "that returns it"
            )
        if not callable(factory):
            raise UnknownNameError(
                f"{spec}: {parsed.name} of {parsed.place} is no function that returns a network, "
                f"but of type {type(factory).__name__}"
            )
        network = parsed.call(factory)
    if not isinstance(network, nn.Module):
        raise ArgumentError(f"{spec} must return a torch.nn.Module; it returned {type(network)}")
    if weights is None:
        return network
    tensors = read_weights(weights)
    sized = _spec_with_classes(tensors, network, spec)
    return place(network if sized is None else build_own(sized), tensors, str(weights))


def build_for(spec: str, weights: Mapping[str, Tensor], where: str) -> nn.Module:
    """A network of this library with given weights, and as many classes as they have.

    Args:
        spec: as for :func:`build`.
        weights: under any of the known names.
        where: the source of the weights, for messages.

    Raises:
        StoreError: they do not fit.
    """
    # On the meta device first: a record may ask for more classes than memory can hold.
    with torch.device("meta"):
        sized = _spec_with_classes(weights, build_own(spec), spec) or spec_of(spec)
        fitting(build_own(sized), weights, where)
    return place(build_own(sized), weights, where)


def _spec_with_classes(weights: Mapping[str, Tensor], network: nn.Module, spec: str) -> Spec | None:
    """The spec with the classes of the weights, where it names none and the network has others."""
    if is_of_library(spec) or (parsed := spec_of(spec)).place or "classes" in parsed.arguments:
        return None
    if "classes" not in inspect.signature(factories()[parsed.name]).parameters:
        return None
    if (classes := other_classes(network, weights)) is None:
        return None
    return replace(parsed, arguments={**parsed.arguments, "classes": classes})
