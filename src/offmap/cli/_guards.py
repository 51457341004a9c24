"""Guards and their networks, for the commands that use them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from offmap.forward import Preprocessing
    from offmap.guard import Guard


def open_guard(
    folder: Path,
    model: str | None,
    weights: Path | None,
    detectors: Sequence[str] = (),
    *,
    device: str | None = None,
    normalization: str | None = None,
    size: int | None = None,
    channels: int | None = None,
    alarm_rate: float | None = None,
) -> Guard:
    """The guard in a folder, with its network, and with what its record does not know.

    The record names what built the network. Only networks of this library, or of its zoo, are built
    on its word: a record must not choose what code is run.
    """
    from offmap.detectors import detector
    from offmap.guard import load, schema
    from offmap.training import normalization as read

    for spec in detectors:  # a record names no file: the user does
        detector(spec)
    record, files = schema.read(folder)
    network = _network(record, model, weights, kept="network" in files).to(device_of(device))
    how = None if normalization is None else read(normalization)
    guard = load(folder, network, normalization=how)
    _check_normalization(guard)
    _complete(guard, size, channels)
    return guard if alarm_rate is None else guard.at(alarm_rate)


def _network(record: dict[str, Any], model: str | None, weights: Path | None, *, kept: bool) -> Any:
    """The network of a guard, whose weights must come from somewhere."""
    from offmap import networks
    from offmap.errors import ArgumentError
    from offmap.forward import probe_of, weights_digest

    known = str(record.get("model"))
    ours = known.startswith(networks.zoo.PREFIX) or networks.is_own(known)
    if model is None and not ours:
        made = "from Python" if record.get("model") is None else f"with --model {known}"
        raise ArgumentError(f"give --model: this guard was made {made}")
    network = networks.build(model or known, weights=weights)
    # What loads its weights itself needs no file of them.
    if weights is None and not kept:
        seen = weights_digest(probe_of(network).network)
        if seen != record.get("network_sha256"):
            raise ArgumentError(
                "give --weights: this guard was saved without its network's weights, and those of "
                f"{model or known} are others"
            )
    return network


def _check_normalization(guard: Guard) -> None:
    """Refuse files of images for a guard that does not know how they are normalised."""
    from offmap.errors import ArgumentError

    if not getattr(guard.probe.normalization, "known", True):
        raise ArgumentError(
            "give --normalization: this guard was fitted on images that were normalised already, "
            "by what it does not know, and images in files are not"
        )


def _complete(guard: Guard, size: int | None, channels: int | None) -> None:
    """Give a guard the shape of its images, where it does not know it."""
    from offmap.errors import ArgumentError

    if (size, channels) == (None, None):
        return
    if guard.input_shape is not None:
        known, height, width = shape_of(guard)
        if size not in (None, height) or size not in (None, width) or channels not in (None, known):
            raise ArgumentError(
                f"this guard was fitted on images of {known} channels, {height} by {width}: leave "
                "--size and --channels out"
            )
    elif size is not None:
        several = len(getattr(guard.probe.normalization, "mean", ()))
        channels = channels or (several if several > 1 else None)
        if channels is None:
            raise ArgumentError("give --channels beside --size: 1 for grey, 3 for colour")
        guard.input_shape = (channels, size, size)


def shape_of(guard: Guard) -> tuple[int, int, int]:
    """Channels, height and width of a guard's images.

    Raises:
        ArgumentError: it does not know them.
    """
    from offmap.errors import ArgumentError

    if guard.input_shape is None:
        raise ArgumentError("this guard does not know the size of its images: give --size")
    if len(guard.input_shape) != 3:
        raise ArgumentError(
            f"this guard was fitted on inputs of shape {guard.input_shape}, and commands are for "
            "images: use it from Python"
        )
    channels, height, width = guard.input_shape
    return channels, height, width


def device_of(name: str | None) -> str:
    """The device that was named, or else CUDA where it is there; no other is taken unasked.

    Raises:
        ArgumentError: there is no such device here.
    """
    import torch

    from offmap.errors import ArgumentError
    from offmap.forward import as_device

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    device = as_device(name)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(
            f"--device {name}: this machine has no such device: {reason}"
        ) from error
    return name


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


def preprocessing(model: str, network: nn.Module) -> Preprocessing:
    """What a network of timm or transformers says of its images; of others nothing."""
    from offmap import networks
    from offmap.forward import Preprocessing, preprocessing_of

    return preprocessing_of(network) if networks.is_of_library(model) else Preprocessing()
