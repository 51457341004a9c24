"""The columns of a batch that has names: which are inputs, and which are labels."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from offmap._utils.samples import as_tensor, is_array, tensor_of
from offmap.errors import DataError

# What loaders call them.
IMAGE = ("images", "image", "pixel_values", "x", "img")
LABEL = ("labels", "label", "y", "targets", "target")
# Without one of these, a dict is no input of a network.
SEQUENCE = ("input_ids", "inputs_embeds", "input_values", "input_features")


def by_name(batch: Any) -> Any:
    """A named tuple by its names, if the inputs have one: labels may stand first."""
    fields = getattr(batch, "_fields", ()) if isinstance(batch, tuple) else ()
    return batch._asdict() if set(fields) & {*IMAGE, *SEQUENCE} else batch


def inputs_of(batch: Mapping[str, Any], takes: Container[str]) -> Any:
    """What a network takes of a dict, but the labels: images, a sequence, or what it names."""
    image = next((name for name in IMAGE if name in batch), None)
    own = [name for name in batch if name in takes and name not in (image, *LABEL)]
    named = {n: batch[n] for n in own if _are_numbers(batch[n]) or _is_scalar(batch[n])}
    if image is not None:
        return {image: batch[image], **named} if named and image in takes else batch[image]
    if not any(name in batch for name in SEQUENCE):
        if named:
            return named
        raise DataError(
            f"a batch is a dict with the keys {', '.join(map(repr, batch))}: give the inputs as "
            f"one of {', '.join(IMAGE)}, or a sequence as {', '.join(SEQUENCE)} with what belongs "
            "to it, or under the names that the network takes; and labels as one of "
            f"{', '.join(LABEL)}"
        )
    if ragged := [n for n in SEQUENCE if n in batch and not _are_numbers(batch[n])]:
        raise DataError(
            f"{ragged[0]} is no array: give rows of one length, padded and with a mask where the "
            "samples differ in theirs"
        )
    return {name: x for name, x in batch.items() if name not in LABEL and _are_numbers(x)}


def is_text(inputs: Mapping[str, Any]) -> bool:
    """Whether it is the tokens of one text, or one sound, and no batch of some."""
    sequences = [x for name, x in inputs.items() if name in SEQUENCE]
    return bool(sequences) and all(np.ndim(x) == 1 for x in sequences)


def as_row(sample: Mapping[str, Any]) -> Mapping[str, Any]:
    """A batch of one sample."""
    return {name: as_tensor(x)[None] for name, x in sample.items()}


def _are_numbers(x: Any) -> bool:
    return is_array(x) or (isinstance(x, list) and as_labels(x) is not None)


def _is_scalar(x: Any) -> bool:
    return isinstance(x, int | float | np.number)


def is_number(x: Any) -> bool:
    """Whether it is a whole number."""
    return isinstance(x, int | np.integer)


def as_labels(labels: Any) -> Tensor | None:
    """Labels, if it is numbers that stand beside the inputs: loaders also give paths or targets."""
    if isinstance(labels, Tensor):
        return labels
    try:
        array = np.asarray(labels)
    except (ValueError, TypeError):  # lists of different lengths
        return None
    if array.dtype.kind == "b":  # as in tensors, which are taken as they are
        return torch.from_numpy(array).long() if array.ndim == 1 else None
    return tensor_of(array) if array.dtype.kind in "iuf" else None
