"""Guards and their networks, for the commands that use them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offmap.guard import Guard


def open_guard(folder: Path, model: str | None, weights: Path | None) -> Guard:
    """The guard in a folder, with its network.

    The record names what built the network. Only networks of this library, or of its zoo, are built
    on its word: a record must not choose what code is run.
    """
    from offmap import networks, store
    from offmap.errors import ArgumentError
    from offmap.guard import load

    record, files = store.read(folder, "guard")
    known = str(record.get("model"))
    ours = known.startswith(networks.zoo.PREFIX) or networks.is_own(known)
    if model is None and not ours:
        raise ArgumentError(f"give --model: this guard was made with --model {known}")
    trained = (model or known).startswith(networks.zoo.PREFIX)
    if weights is None and "network" not in files and not trained:
        raise ArgumentError("give --weights: this guard was saved without its network's weights")
    return load(folder, networks.build(model or known, weights=weights))
