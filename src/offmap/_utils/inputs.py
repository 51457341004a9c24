"""Batches as loaders give them: inputs and labels of some samples, however they are wrapped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from offmap._utils.samples import (
    as_sample,
    as_tensor,
    channels_first,
    is_array,
    is_picture,
    stacked,
    tensor_of,
)
from offmap.errors import DataError, LabelError

Inputs = Tensor | Mapping[str, Tensor]


@dataclass(frozen=True)
class Prepared:
    """Inputs as a network takes them: several networks may share what was done once."""

    inputs: Inputs


# What loaders call them.
IMAGE = ("images", "image", "pixel_values", "x", "img")
LABEL = ("labels", "label", "y", "targets", "target")
# Without one of these, a dict is no input of a network.
SEQUENCE = ("input_ids", "inputs_embeds", "input_values", "input_features")


def pair(batch: Any) -> tuple[Inputs, Tensor | None]:
    """Inputs and labels of a batch, however a loader gives them.

    Raises:
        DataError: it holds nothing that a network could be given.
    """
    if isinstance(batch, list) and batch and all(map(_is_sample_of_list, batch)):
        return _gathered(batch)
    inputs, labels = _parts(batch)
    return as_inputs(inputs), _as_labels(labels)


def inputs_in(batch: Any) -> Any:
    """What a network takes of a batch that has names or labels; others as they are."""
    named = isinstance(_by_name(batch), Mapping)
    return _parts(batch)[0] if named or _are_arrays(batch) else batch


def _parts(batch: Any) -> tuple[Any, Any]:
    batch = _by_name(batch)
    if isinstance(batch, Mapping):
        labels = next((batch[name] for name in LABEL if name in batch), None)
        return _named(batch), labels
    if isinstance(batch, tuple | list) and len(batch) and not _is_list_of_samples(batch):
        return batch[0], batch[1] if len(batch) > 1 else None
    return batch, None


def _by_name(batch: Any) -> Any:
    """A named tuple by its names, if the inputs have one: labels may stand first."""
    fields = getattr(batch, "_fields", ()) if isinstance(batch, tuple) else ()
    return batch._asdict() if set(fields) & {*IMAGE, *SEQUENCE} else batch


def _named(batch: Mapping[str, Any]) -> Any:
    """What a network takes of a dict: its images, or all of a sequence but the labels."""
    images = next((batch[name] for name in IMAGE if name in batch), None)
    if images is not None:
        return images
    if not any(name in batch for name in SEQUENCE):
        raise DataError(
            f"a batch is a dict with the keys {', '.join(map(repr, batch))}: give the inputs as "
            f"one of {', '.join(IMAGE)}, or a sequence as {', '.join(SEQUENCE)} with what belongs "
            f"to it; and labels as one of {', '.join(LABEL)}"
        )
    return {name: x for name, x in batch.items() if name not in LABEL and _are_numbers(x)}


def as_inputs(inputs: Any) -> Inputs:
    """Tensors of what a network may be given: arrays, pictures, and lists of them.

    Raises:
        DataError: it is none of these, or pictures of several sizes.
    """
    if isinstance(inputs, Tensor):
        return inputs
    if isinstance(inputs, Mapping):
        return {name: as_tensor(x) for name, x in inputs.items()}
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "iufb":
        return channels_first(tensor_of(inputs))
    if is_picture(inputs):
        return as_sample(inputs)[None]
    if isinstance(inputs, tuple | list) and len(inputs):
        return stacked([as_sample(x) for x in inputs])
    raise DataError(
        "a batch must be (inputs, labels), inputs alone, or a dict with 'image' and 'label', with "
        f"tensors, arrays or pictures inside; seen {type(inputs).__name__}"
    )


def _are_numbers(x: Any) -> bool:
    return is_array(x) or (isinstance(x, list) and _as_labels(x) is not None)


def _is_list_of_samples(batch: Sequence[Any]) -> bool:
    """Whether a list holds samples, and not inputs and labels."""
    if all(map(is_picture, batch)):
        return True
    shapes = {tuple(x.shape) if is_array(x) else () for x in batch}
    alike = len(batch) > 1 and len(shapes) == 1
    return isinstance(batch, list) and alike and len(shapes.pop()) == 3


def _as_labels(labels: Any) -> Tensor | None:
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


def batches_of(data: Any, batch_size: int) -> Iterator[tuple[Inputs, Tensor | None]]:
    """Batches of any iterable; samples, and arrays of all of them, are cut into batches.

    Raises:
        DataError: a batch holds nothing that a network could be given.
    """
    if isinstance(data, Mapping):
        inputs, labels = pair(data)
        for start in range(0, count_of(inputs), batch_size):
            rows = slice(start, start + batch_size)
            yield rows_of(inputs, rows), None if labels is None else labels[rows]
        return
    if is_array(data) or _are_arrays(data):
        x, y = (data, None) if is_array(data) else data
        yield from _cut(x, y, batch_size)
        return
    if not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise DataError(
            "data must be batches, samples, arrays of all samples, or the name or path of a set; "
            f"seen {type(data).__name__}"
        )
    # One without a length is read by its numbers, too, until it says that there are no more.
    indexed = isinstance(data, Dataset) and not isinstance(data, IterableDataset)
    indexed = indexed and hasattr(data, "__len__")
    items = (data[i] for i in range(len(data))) if indexed else iter(data)
    for item in items:
        if not (indexed or _is_sample(item)):
            yield pair(item)
            continue
        yield _gathered(chain([item], islice(items, batch_size - 1)))


def _cut(x: Any, y: Any, batch_size: int) -> Iterator[tuple[Inputs, Tensor | None]]:
    """Batches of arrays of all samples, each made a tensor when it is its turn."""
    if y is not None and _as_labels(y) is None:
        raise LabelError(
            f"labels of {y.dtype}: give the number of each sample's class, as the network counts "
            "them"
        )
    for start in range(0, len(x), batch_size):
        rows = slice(start, start + batch_size)
        yield pair(x[rows] if y is None else (x[rows], y[rows]))


def _are_arrays(data: Any) -> bool:
    """Whether it is inputs and labels of all samples.

    Raises:
        LabelError: it is, and the labels are columns or rows.
    """
    if not isinstance(data, tuple | list) or len(data) != 2 or not is_array(data[0]):
        return False
    x: Any
    y: Any
    x, y = data
    if isinstance(y, list) and len(x) == len(y) and all(map(_is_number, y)):
        return True
    if not is_array(y):
        return False
    if x.ndim < 2 or not 0 < y.ndim <= x.ndim or len(x) != len(y):
        return False
    # Batches one behind the other have as many axes, and of two numbers a sample one is no batch.
    if 1 < y.ndim < x.ndim or (y.ndim == 2 and y.shape[1] == 1 < x.shape[1]):
        raise LabelError(
            f"labels of shape {tuple(y.shape)} beside inputs of {tuple(x.shape)}: give the number "
            "of each sample's class, one axis (n,), as the network counts them"
        )
    return bool(y.ndim == 1)


def _is_sample(item: Any) -> bool:
    """Whether a loader gives samples one by one: a picture, or a label that is one number."""
    inputs, label = _parts(item) if isinstance(item, Mapping | tuple | list) else (item, None)
    alone = _is_number(label) or getattr(label, "ndim", None) == 0
    return alone or is_picture(item) or (is_picture(inputs) and not isinstance(item, list))


def _is_sample_of_list(item: Any) -> bool:
    """Whether what stands in a batch that is a list is a sample, with its label or under names."""
    if isinstance(item, Mapping):  # labels may stand in one of their own, beside that of the inputs
        return any(name in item for name in (*IMAGE, *SEQUENCE))
    return isinstance(item, tuple) and _is_sample(item)


def _is_number(x: Any) -> bool:
    return isinstance(x, int | np.integer)


def _gathered(items: Iterable[Any]) -> tuple[Inputs, Tensor | None]:
    """Samples as one batch; each is copied as it comes, before a loader fills it again."""
    samples: list[Any] = []
    labels: list[Tensor] = []
    for item in items:
        x, label = _parts(item) if isinstance(item, Mapping | tuple | list) else (item, None)
        samples.append(
            {name: as_tensor(value).clone() for name, value in x.items()}
            if isinstance(x, Mapping)
            else as_sample(x).clone()
        )
        number = _as_labels(int(label) if isinstance(label, bool | np.bool_) else label)
        if number is not None:
            labels.append(number if number.is_floating_point() else number.long())
    first = samples[0]
    inputs = (
        {name: stacked([x[name] for x in samples]) for name in first}
        if isinstance(first, Mapping)
        else stacked(samples)
    )
    if len(labels) < len(samples):
        return inputs, None
    if len(shapes := {tuple(x.shape) for x in labels}) > 1:
        raise LabelError(f"labels must be one number a sample; seen shapes {sorted(shapes)}")
    return inputs, torch.stack(labels)


def count_of(inputs: Inputs | Prepared) -> int:
    """The number of samples."""
    if isinstance(inputs, Tensor):  # first, as most are
        return inputs.shape[0]
    inputs = inputs.inputs if isinstance(inputs, Prepared) else inputs
    first = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
    return first.shape[0]


def rows_of(inputs: Inputs, rows: slice) -> Inputs:
    """Some of the samples."""
    if isinstance(inputs, Mapping):
        return {name: x[rows] for name, x in inputs.items()}
    return inputs[rows]
