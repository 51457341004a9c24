"""Guards and their networks, for the commands that use them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from torch import nn

    from offmap.forward import Preprocessing
    from offmap.guard import Guard


def open_guard(
    folder: Path, model: str | None, weights: Path | None, detectors: Sequence[str] = ()
) -> Guard:
    """The guard in a folder, with its network.

    The record names what built the network. Only networks of this library, or of its zoo, are built
    on its word: a record must not choose what code is run.
    """
    from offmap import networks
    from offmap._utils import records
    from offmap.detectors import detector
    from offmap.errors import ArgumentError
    from offmap.guard import load

    for spec in detectors:  # a record names no file: the user does
        detector(spec)
    record, files = records.read(folder, "guard", made_by="offmap fit")
    known = str(record.get("model"))
    ours = known.startswith(networks.zoo.PREFIX) or networks.is_own(known)
    if model is None and not ours:
        made = "from Python" if record.get("model") is None else f"with --model {known}"
        raise ArgumentError(f"give --model: this guard was made {made}")
    given = model or known
    trained = given.startswith(networks.zoo.PREFIX) or networks.is_of_library(given)
    if weights is None and "network" not in files and not trained:
        raise ArgumentError("give --weights: this guard was saved without its network's weights")
    return load(folder, networks.build(given, weights=weights))


def trained_network(model: str, weights: Path | None) -> nn.Module:
    """The network of a command that does not train it.

    Raises:
        ArgumentError: one of this library's networks without weights.
    """
    from offmap import networks
    from offmap.errors import ArgumentError

    if weights is None and networks.is_own(model):
        raise ArgumentError(f"{model} has no weights yet: give --weights, or train it first")
    return networks.build(model, weights=weights)


def preprocessing(model: str, network: nn.Module) -> Preprocessing:
    """What a network of timm or transformers says of its images; of others nothing."""
    from offmap import networks
    from offmap.forward import Preprocessing, preprocessing_of

    return preprocessing_of(network) if networks.is_of_library(model) else Preprocessing()


def tell_skipped(images: Any) -> None:
    """Say which images could not be read, and which files are none, if any."""
    if skipped := getattr(images, "skipped", ()):
        typer.echo(
            f"skipped in {images.name}: {len(skipped)} unreadable, first {skipped[0].path} "
            f"({skipped[0].reason})",
            err=True,
        )
    if left_out := getattr(images, "left_out", ()):
        typer.echo(
            f"left out of {images.name}: {len(left_out)} files or folders that are no images, "
            f"first {left_out[0].path} ({left_out[0].reason})",
            err=True,
        )
