"""A guard from its folder alone: with its network, and with what its record does not know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from offmap import networks
from offmap._utils import records
from offmap.detectors import detector
from offmap.errors import ArgumentError
from offmap.forward import Normalization, as_device, probe_of, weights_digest
from offmap.guard.guard import Guard
from offmap.guard.loading import load


def open_guard(
    folder: str | Path,
    *,
    model: str | None = None,
    weights: str | Path | None = None,
    detectors: Sequence[str] = (),
    device: str | None = None,
    normalization: Normalization | None = None,
    size: int | None = None,
    channels: int | None = None,
    alarm_rate: float | None = None,
) -> Guard:
    """The guard in a folder, for uint8 images.

    The record names what built the network. Only networks of this library, or of its zoo, are built
    on its word: a record must not choose what code is run.

    Args:
        folder: of the guard.
        model: what builds the network, as on the command line, if it is not of this library.
        weights: checkpoint, if the guard was saved without its network's weights.
        detectors: the guard's own ones, ``file.py:Name`` or ``package.module:Name``.
        device: where to run.
        normalization: of a guard that was fitted on images that were normalised already.
        size: side of the images, if the guard does not know it.
        channels: likewise.
        alarm_rate: another than it was calibrated for.

    Raises:
        ArgumentError: something is missing that the guard does not know.
        StoreError: a file is missing, damaged or of another version, or the weights differ.
    """
    for spec in detectors:  # a record names no file: the user does
        detector(spec)
    record, files = records.read(folder, "guard", made_by="offmap fit")
    network = _network(record, model, weights, kept="network" in files)
    guard = load(folder, network.to(as_device(device) or "cpu"), normalization=normalization)
    if not getattr(guard.probe.normalization, "known", True):
        raise ArgumentError(
            "give --normalization: this guard was fitted on images that were normalised already, "
            "by what it does not know, and images in files are not"
        )
    _complete(guard, size, channels)
    return guard if alarm_rate is None else guard.at(alarm_rate)


def _network(
    record: dict[str, Any], model: str | None, weights: str | Path | None, *, kept: bool
) -> nn.Module:
    """The network of a guard, whose weights must come from somewhere."""
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


def _complete(guard: Guard, size: int | None, channels: int | None) -> None:
    """Give a guard the shape of its images, where it does not know it."""
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
    if guard.input_shape is None:
        raise ArgumentError("this guard does not know the size of its images: give --size")
    if len(guard.input_shape) != 3:
        raise ArgumentError(
            f"this guard was fitted on inputs of shape {guard.input_shape}, and commands are for "
            "images: use it from Python"
        )
    channels, height, width = guard.input_shape
    return channels, height, width
