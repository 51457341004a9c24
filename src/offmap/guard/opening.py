"""A guard from its folder, with its network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from offmap.detectors import detector
from offmap.errors import ArgumentError
from offmap.forward import Normalization, as_device, probe_of, weights_digest
from offmap.guard import schema
from offmap.guard.guard import Guard
from offmap.guard.loading import read_guard
from offmap.networks.libraries import HF, TIMM


@dataclass(frozen=True)
class Opening:
    """What commands and services need to open a guard beside its folder.

    A record names what built its network. Only networks of this library, or of its zoo, are built
    on that word, and those that are allowed by name: a record must not choose what code is run, or
    what is downloaded.

    Args:
        model: what builds the network, as in :func:`offmap.networks.build`.
        weights: its checkpoint, if the guard was saved without.
        detectors: the user's own, such as ``file.py:Name``, which the record names but does not
            hold.
        normalization: of a guard that was fitted on images that were normalised already.
        size: side of the images, if the guard does not know it.
        channels: likewise.
        alarm_rate: another than it was calibrated for.
        device: where to run; by default CUDA where it is there, and no other is taken unasked.
        allow: what a record may name besides: such as ``mine.py:network``, or ``timm:`` and ``hf:``
            for all of these libraries (without arguments that are texts, such as paths).
    """

    model: str | None = None
    weights: str | Path | None = None
    detectors: Sequence[str] = ()
    normalization: Normalization | None = None
    size: int | None = None
    channels: int | None = None
    alarm_rate: float | None = None
    device: str | None = None
    allow: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, value in (("allow", self.allow), ("detectors", self.detectors)):
            if isinstance(value, str):  # else parts of it would be allowed, too
                raise ArgumentError(f"{name} must be a list of names; seen the text {value!r}")

    def open(self, folder: str | Path, *, strict: bool = True) -> Guard:
        """The guard in a folder.

        Raises:
            ArgumentError: what the record does not know, and is not given; says how to give it. Or
                the folder is an address.
            StoreError: as :func:`offmap.load`.
        """
        for spec in self.detectors:
            detector(spec)
        record, files = schema.read(folder)
        network = self._network(record, files.get("network"), f"{folder}/guard.json")
        network.to(device_or_usual(self.device))
        guard = read_guard(folder, network, strict=strict, normalization=self.normalization)
        self._set_shape(guard)
        return guard if self.alarm_rate is None else guard.at(self.alarm_rate)

    @property
    def on_cpu(self) -> Opening:
        """The same, for a guard whose network workers run."""
        return replace(self, device="cpu")

    def _network(
        self, record: dict[str, Any], state: dict[str, Tensor] | None, where: str
    ) -> nn.Module:
        """The network of a guard, with its weights from the folder, a file or its maker."""
        from offmap import networks
        from offmap.networks.model import build_for

        recorded = str(record.get("model"))
        ours = recorded.startswith(networks.zoo.PREFIX) or networks.is_own(recorded)
        if self.model is None and not (ours or self._allows(recorded)):
            origin = "from Python" if record.get("model") is None else f"with model={recorded}"
            raise ArgumentError(f"give model=: this guard was made {origin}")
        spec = self.model or recorded
        if self.weights is None and state is not None and networks.is_own(spec):
            return build_for(spec, state, where)
        network = networks.build(spec, weights=self.weights)
        # A maker that loads the weights itself needs no file of them.
        if self.weights is None and state is None:
            digest = weights_digest(probe_of(network).network)
            if digest != record.get("network_sha256"):
                raise ArgumentError(
                    "give weights=: this guard was saved without its network's weights, and "
                    f"those of {spec} are others"
                )
        return network

    def _allows(self, model: str) -> bool:
        """Whether the caller lets a record name this network."""
        library = f"{model.partition(':')[0]}:"
        plain = not any(quote in model for quote in "'\"")
        return model in self.allow or (library in (TIMM, HF) and plain and library in self.allow)

    def _set_shape(self, guard: Guard) -> None:
        """Give a guard the shape of its images, where it does not know it."""
        size, channels = self.size, self.channels
        if (size, channels) == (None, None):
            return
        if guard.input_shape is not None:
            depth, height, width = shape_of(guard)
            fits = all(size in (None, side) for side in (height, width))
            if not fits or channels not in (None, depth):
                raise ArgumentError(
                    f"this guard was fitted on images of {depth} channels, {height} by {width}: "
                    "leave size= and channels= out"
                )
        elif size is not None:
            means = len(getattr(guard.probe.normalization, "mean", ()))
            channels = channels or (means if means > 1 else None)
            if channels is None:
                raise ArgumentError("give channels= beside size=: 1 for grey, 3 for colour")
            guard.input_shape = (channels, size, size)


def load(
    folder: str | Path,
    network: nn.Module | None = None,
    *,
    strict: bool = True,
    normalization: Normalization | None = None,
    allow: Sequence[str] = (),
) -> Guard:
    """Read back what :meth:`Guard.save` wrote; verdicts are equal bit for bit.

    Args:
        folder: what was saved.
        network: the same network, or a cascade of the same parts; if the weights were saved too,
            they are loaded into it. A network of this library, or of its zoo, is built anew where
            none is given, and runs on CUDA where that is there.
        strict: refuse a network with other weights than those that the guard was fitted on.
        normalization: applied to uint8 images, of a guard that was fitted on floats that were
            normalised already, and does not know by what.
        allow: what the record may name as the network's maker besides this library's own:
            ``timm:``, ``hf:``, or a factory such as ``mine.py:network``: it is run.

    Raises:
        StoreError: a file is missing, damaged or of another version; the weights differ; or a
            normalisation is given, and the guard has another.
        ArgumentError: no network is given, and the record may not choose one.
    """
    if network is None:
        opening = Opening(normalization=normalization, allow=allow)
        try:
            return opening.open(folder, strict=strict)
        except ArgumentError as error:
            remedy, _, reason = str(error).partition(": ")
            if remedy not in ("give model=", "give weights="):
                raise
            raise ArgumentError(f"give the guard's network beside its folder: {reason}") from error
    return read_guard(folder, network, strict=strict, normalization=normalization)


def check_knows_normalization(guard: Guard) -> None:
    """Refuse files of images for a guard that does not know how its images were normalised."""
    if not getattr(guard.probe.normalization, "known", True):
        raise ArgumentError(
            "give normalization=: this guard was fitted on images that were normalised already, it "
            "does not know by what, and images in files are not"
        )


def shape_of(guard: Guard) -> tuple[int, int, int]:
    """Channels, height and width of a guard's images, for commands and services.

    Raises:
        ArgumentError: it does not know them.
    """
    if guard.input_shape is None:
        raise ArgumentError("this guard does not know the size of its images: give size=")
    if len(guard.input_shape) != 3:
        raise ArgumentError(
            f"this guard was fitted on inputs of shape {guard.input_shape}, and this is for "
            "images: call the guard itself"
        )
    channels, height, width = guard.input_shape
    return channels, height, width


def device_or_usual(name: str | None) -> str:
    """The device that was named, or else CUDA where it is there.

    Raises:
        ArgumentError: there is no such device here.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    as_device(name)
    return name
