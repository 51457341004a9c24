"""Guards and their networks, for the commands that use them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

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
    trained = (model or known).startswith(networks.zoo.PREFIX)
    if weights is None and "network" not in files and not trained:
        raise ArgumentError("give --weights: this guard was saved without its network's weights")
    return load(folder, networks.build(model or known, weights=weights))


def load_joined(names: Sequence[str], *, limit: int | None = None, **first: Any) -> Any:
    """The data of these names as one set, the others like the first."""
    from offmap import data

    images = data.load(names[0], limit=limit, **first)
    others = (data.load_like(name, images, limit=limit) for name in names[1:])
    return data.join([images, *others])


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
