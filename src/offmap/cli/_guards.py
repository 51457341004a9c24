"""Guards, their networks and data, for the commands that use them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from offmap.forward import Preprocessing
    from offmap.guard import Certified, Guard, Opening


def open_guard(folder: Path, opening: Opening) -> Guard:
    """The guard in a folder, for images in files."""
    from offmap.guard.opening import check_knows_normalization

    guard = opening.open(folder)
    check_knows_normalization(guard)
    return guard


def certified_by(folder: Path | None, alarm_rate: float | None) -> Certified | None:
    """What the guard in a folder certifies, at its rate or at another; ``None`` without a folder.

    Raises:
        ArgumentError: a rate without a folder.
    """
    from offmap.errors import ArgumentError
    from offmap.guard import Certified

    if alarm_rate is not None and folder is None:
        raise ArgumentError("--alarm-rate is that of the guard: give --guard FOLDER beside it")
    return None if folder is None else Certified.read(folder, alarm_rate)


def load_joined(names: Sequence[str], *, limit: int | None = None, **first: Any) -> Any:
    """The data of these names as one set, the others like the first."""
    from offmap import data

    images = data.load(names[0], limit=limit, **first)
    return data.join([images, *(data.load_like(n, images, limit=limit) for n in names[1:])])


def load_named(values: Sequence[str], like: Any, **options: Any) -> dict[str, Any]:
    """Data by name, from ``NAME=DATA`` or ``DATA``, prepared as other data."""
    from offmap import data
    from offmap.cli._arguments import named

    return {name: data.load_like(x, like, **options) for name, x in named(values).items()}


def load_like_fit(
    guard: Guard,
    names: Sequence[str],
    limit: int | None = None,
    transform: str | None = None,
) -> Any:
    """The images of these names as one set, prepared as those that the guard was fitted on."""
    from offmap.guard.opening import shape_of

    channels, *side = shape_of(guard)
    return load_joined(
        names,
        size=None if transform else (side[0], side[1]),
        channels=None if transform else channels,
        limit=limit,
        resize=guard.input_resize,
        transform=transform,
    )


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
    """How a network of timm or transformers says that images are prepared; empty for others."""
    from offmap import networks
    from offmap.forward import Preprocessing, preprocessing_of

    return preprocessing_of(network) if networks.is_of_library(model) else Preprocessing()


def workers_of(engine: str | None, workers: int | None) -> int | None:
    """The number of worker processes; ``None`` for this process alone.

    Raises:
        ArgumentError: an engine that is not known, or workers without one.
    """
    from offmap.errors import ArgumentError

    if engine is None and workers is not None:
        raise ArgumentError("--workers are those of an engine: give --engine ray beside it")
    if engine not in (None, "ray"):
        raise ArgumentError(f"--engine {engine}: there is ray; leave it out for one process")
    return None if engine is None else workers or 2
