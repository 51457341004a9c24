"""Preprocessing and class names from the configuration of timm and transformers networks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from offmap.forward._outputs import unwrapped
from offmap.forward.normalization import Normalization

_PLACEHOLDER = re.compile(r"LABEL_\d+")


@dataclass(frozen=True)
class Preprocessing:
    """How a network takes its images, and the names of its classes.

    Args:
        normalization: of uint8 images; ``None`` where the network does not say.
        size: height and width, likewise.
        classes: names of its outputs, likewise.
    """

    normalization: Normalization | None = None
    size: tuple[int, int] | None = None
    classes: tuple[str, ...] = ()


def preprocessing_of(network: nn.Module, processor: Any = None) -> Preprocessing:
    r"""The preprocessing in the configuration of a timm or transformers network; else empty.

    timm says it in ``pretrained_cfg``, transformers in the processor that belongs to the network:
    with a factor :math:`f` and an offset :math:`b` of pixels :math:`p` from 0 to 255,

    .. math:: \frac{f p - b - m}{s} = \frac{p / 255 - (m + b) / (255 f)}{s / (255 f)}

    Args:
        network: such a network. One that was trained from scratch may have been given images in
            another form than it says.
        processor: of transformers, for images, or its values by name; by default that of the
            network's attribute ``image_processor``, where ``hf:OWNER/NAME`` puts it.
    """
    network = unwrapped(network)
    of_timm = getattr(network, "pretrained_cfg", None)
    if isinstance(of_timm, Mapping):
        mean, std, shape = (of_timm.get(name) for name in ("mean", "std", "input_size"))
        return Preprocessing(
            None if mean is None or std is None else Normalization(_floats(mean), _floats(std)),
            None if shape is None else (int(shape[-2]), int(shape[-1])),
            class_names(network),
        )
    config = getattr(network, "config", None)
    processor = getattr(network, "image_processor", None) if processor is None else processor
    values = processor.to_dict() if hasattr(processor, "to_dict") else processor or {}
    # That of the centre crop, else what images are resized to, else what the network was built for.
    cropped = values.get("do_center_crop", values.get("crop_size") is not None)
    names = ("crop_size", "size") if cropped else ("size",)
    sizes = (*(values.get(name) for name in names), getattr(config, "image_size", None))
    size = next((pair for pair in map(_as_size, sizes) if pair is not None), None)
    if not values:
        return Preprocessing(None, size, class_names(network))
    normalized = values.get("do_normalize", True)
    mean, std = (
        _floats(values.get(name) if normalized else None, default)
        for name, default in (("image_mean", 0.0), ("image_std", 1.0))
    )
    factor = 1.0 if values.get("do_rescale") is False else values.get("rescale_factor")
    scale = 255 * float(1 / 255 if factor is None else factor)
    offset = 1.0 if values.get("rescale_offset") else 0.0
    normalization = Normalization(
        tuple((m + offset) / scale for m in mean), tuple(s / scale for s in std)
    )
    return Preprocessing(normalization, size, class_names(network))


def class_names(network: nn.Module) -> tuple[str, ...]:
    """The classes that a network's configuration names, in order; none where these are numbers."""
    network = unwrapped(network)
    of_timm = getattr(network, "pretrained_cfg", None)
    if isinstance(of_timm, Mapping):
        return tuple(map(str, of_timm.get("label_names") or ()))
    names = getattr(getattr(network, "config", None), "id2label", None)
    if not isinstance(names, Mapping) or not all(str(number).isdecimal() for number in names):
        return ()
    in_order = tuple(str(names[number]) for number in sorted(names, key=int))
    return () if any(map(_PLACEHOLDER.fullmatch, in_order)) else in_order


def _floats(values: Any, default: float = 0.0) -> tuple[float, ...]:
    if values is None:
        return (default,)
    return tuple(map(float, values)) if isinstance(values, list | tuple) else (float(values),)


def _as_size(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if hasattr(size, "get"):  # a dict, or transformers' own kind of it
        sides = size.get("height"), size.get("width")
        return _as_size(size.get("shortest_edge")) if None in sides else _as_size(sides)
    if isinstance(size, tuple | list) and len(size) == 2:
        return int(size[0]), int(size[1])
    return None
