"""The columns of a batch that has names: which are inputs, and which are labels."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from offmap._utils.samples import as_tensor, is_array, tensor_of
from offmap.errors import DataError

# The names that loaders use.
IMAGE = ("images", "image", "pixel_values", "x", "img")
LABEL = ("labels", "label", "y", "targets", "target")
# Names of sequences that are the input of a network.
SEQUENCE = ("input_ids", "inputs_embeds", "input_values", "input_features")


def by_name(batch: Any) -> Any:
    """A named tuple as a dict, if it names its inputs: labels may come first."""
    fields = getattr(batch, "_fields", ()) if isinstance(batch, tuple) else ()
    return batch._asdict() if set(fields) & {*IMAGE, *SEQUENCE} else batch


def inputs_of(batch: Mapping[str, Any], takes: Container[str]) -> Any:
    """The inputs in a dict: images, a sequence, or columns that the network takes."""
    image = next((name for name in IMAGE if name in batch), None)
    names = [name for name in batch if name in takes and name not in (image, *LABEL)]
    numbers = int | float | np.number
    pairs = ((name, batch[name]) for name in names)
    columns = {name: x for name, x in pairs if isinstance(x, numbers) or _are_numbers(x)}
    if image is not None:
        return {image: batch[image], **columns} if columns and image in takes else batch[image]
    if not any(name in batch for name in SEQUENCE):
        if columns:
            return columns
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
    """Whether it is a single text or sound, not a batch."""
    sequences = [x for name, x in inputs.items() if name in SEQUENCE]
    return bool(sequences) and all(np.ndim(x) == 1 for x in sequences)


def as_row(sample: Mapping[str, Any]) -> Mapping[str, Any]:
    """A batch of one sample."""
    return {name: as_tensor(x)[None] for name, x in sample.items()}


def _are_numbers(x: Any) -> bool:
    return is_array(x) or (isinstance(x, list) and as_labels(x) is not None)


def is_number(x: Any) -> bool:
    """Whether it is a whole number."""
    return isinstance(x, int | np.integer)


def as_labels(labels: Any) -> Tensor | None:
    """Labels as a tensor, ``None`` unless they are numbers: loaders also give paths or targets."""
    if isinstance(labels, Tensor):
        return labels
    try:
        array = np.asarray(labels)
    except (ValueError, TypeError):  # lists of different lengths
        return None
    if array.dtype.kind == "b":  # as for tensors, which are returned unchanged
        return torch.from_numpy(array).long() if array.ndim == 1 else None
    return tensor_of(array) if array.dtype.kind in "iuf" else None
