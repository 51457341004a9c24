"""Inputs and labels in the batches of loaders, however they are wrapped."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from offmap._utils.columns import (
    IMAGE,
    LABEL,
    SEQUENCE,
    as_labels,
    as_row,
    by_name,
    inputs_of,
    is_number,
    is_text,
)
from offmap._utils.samples import (
    as_sample,
    as_tensor,
    channels_first,
    is_array,
    is_picture,
    stacked,
    tensor_of,
)
from offmap._utils.warning import warn_user
from offmap.errors import DataError, InputsWarning, LabelError

Inputs = Tensor | Mapping[str, Tensor]
_RUN = 8  # labels that would hardly count on by chance


@dataclass(frozen=True)
class Prepared:
    """Inputs prepared for a network: several networks may share them."""

    inputs: Inputs


def pair(batch: Any, takes: Container[str] = ()) -> tuple[Inputs, Tensor | None]:
    """Inputs and labels of a batch, however a loader gives them.

    Args:
        batch: of a loader.
        takes: names of the network's inputs: of the columns beside an image, it gets these.

    Raises:
        DataError: it holds no inputs for a network.
    """
    if isinstance(batch, list) and batch and all(_is_sample_of_list(item, takes) for item in batch):
        return _gather(batch, takes)
    inputs, labels = _parts(batch, takes)
    if isinstance(batch, tuple | list) and len(batch) == 3 and all(map(is_array, batch[1:])):
        _warn_of_index(*batch[1:])
    return as_inputs(inputs), as_labels(labels)


def inputs_in(batch: Any, takes: Container[str] = ()) -> Any:
    """The inputs in a batch, or text, that has names or labels; other batches as they are."""
    has_names = isinstance(by_name(batch), Mapping)
    inputs = _parts(batch, takes)[0] if has_names or _are_arrays(batch) else batch
    return as_row(inputs) if isinstance(inputs, Mapping) and is_text(inputs) else inputs


def _parts(batch: Any, takes: Container[str] = ()) -> tuple[Any, Any]:
    batch = by_name(batch)
    if isinstance(batch, Mapping):
        labels = next((batch[name] for name in LABEL if name in batch), None)
        return inputs_of(batch, takes), labels
    if not isinstance(batch, tuple | list) or not len(batch) or all(map(is_picture, batch)):
        return batch, None
    shapes = {tuple(x.shape) if is_array(x) else () for x in batch}
    one_shape = isinstance(batch, list) and len(batch) > 1 and len(shapes) == 1
    if one_shape and len(shapes.pop()) == 3:  # images, not inputs and labels
        return batch, None
    return batch[0], batch[1] if len(batch) > 1 else None


def as_inputs(inputs: Any) -> Inputs:
    """Inputs as tensors, from arrays, pictures, and lists of them.

    Raises:
        DataError: it is none of these, or pictures of several sizes, or a list of the inputs that
            a network takes.
    """
    if isinstance(inputs, Tensor):
        return inputs
    if isinstance(inputs, Mapping):
        tensors: dict[str, Tensor] = {}
        for name, x in inputs.items():
            rows = isinstance(x, list) and bool(x) and all(map(is_array, x))
            tensor = as_inputs(x) if name in IMAGE or rows else as_tensor(x)
            assert isinstance(tensor, Tensor)
            if not tensor.ndim:
                raise DataError(
                    f"{name} is one number for all of a batch: give one for each sample"
                )
            tensors[name] = tensor
        return tensors
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "iufb":
        return channels_first(tensor_of(inputs))
    if is_picture(inputs):
        return as_sample(inputs)[None]
    if isinstance(inputs, tuple | list) and len(inputs):
        # One array for each input of a network, instead of one for each sample. Of tensors alone:
        # arrays may be grey and colour pictures.
        shapes = [tuple(x.shape) if isinstance(x, Tensor) else () for x in inputs]
        if all(shapes) and len(set(map(len, shapes))) > 1 and len({s[0] for s in shapes}) == 1:
            raise DataError(
                f"a batch has {len(inputs)} inputs, of shapes {', '.join(map(str, shapes))}: give "
                "a dict, with these under the names that the network takes"
            )
        return stacked([as_sample(x) for x in inputs])
    several = hasattr(inputs, "__iter__") or hasattr(inputs, "__getitem__")
    several = several and not isinstance(inputs, str | bytes)
    raise DataError(
        "a batch must be (inputs, labels), inputs alone, or a dict with 'image' and 'label', with "
        f"tensors, arrays or pictures inside; seen {type(inputs).__name__}"
        + ("; of a whole data set, give one batch at a time" if several else "")
    )


def _warn_of_index(labels: Any, others: Any) -> None:
    """Warn of ``(inputs, index, labels)``: the index counts on, and the labels do not."""
    labels, others = as_tensor(labels), as_tensor(others)
    if labels.shape != others.shape or labels.ndim != 1 or len(labels) < _RUN:
        return
    if labels.is_floating_point() or others.is_floating_point() or labels.dtype == torch.bool:
        return
    if bool((labels.diff() == 1).all()) and not bool((others.diff() == 1).all()):
        warn_user(
            "a batch has three parts, and the second, which is taken for the labels, counts on as "
            "the numbers of samples do: give (inputs, labels), or a dict with 'image' and 'label'",
            InputsWarning,
        )


def batches_of(
    data: Any, batch_size: int, takes: Container[str] = ()
) -> Iterator[tuple[Inputs, Tensor | None]]:
    """Batches of any iterable; samples, and arrays of all of them, are cut into batches.

    Args:
        data: in any of the forms that a guard takes.
        batch_size: samples a batch, where they do not come in batches.
        takes: names of the network's inputs, as for :func:`pair`.

    Raises:
        DataError: a batch holds no inputs for a network.
    """
    if isinstance(data, Mapping):
        inputs, labels = pair(data, takes)
        for start in range(0, count_of(inputs), batch_size):
            rows = slice(start, start + batch_size)
            yield rows_of(inputs, rows), None if labels is None else labels[rows]
        return
    if is_array(data) or _are_arrays(data):
        x, y = (data, None) if is_array(data) else data
        if y is not None and as_labels(y) is None:
            raise LabelError(
                f"labels of {y.dtype}: give the number of each sample's class, as the network "
                "counts them"
            )
        for start in range(0, len(x), batch_size):  # converted to tensors one batch at a time
            rows = slice(start, start + batch_size)
            yield pair(x[rows] if y is None else (x[rows], y[rows]))
        return
    if not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise DataError(
            "data must be batches, samples, arrays of all samples, or the name or path of a set; "
            f"seen {type(data).__name__}"
        )
    # Sets without a length are read by index, too, until they raise IndexError.
    indexed = isinstance(data, Dataset) and not isinstance(data, IterableDataset)
    indexed = indexed and hasattr(data, "__len__")
    items = (data[i] for i in range(len(data))) if indexed else iter(data)
    for item in items:
        if not (indexed or _is_sample(item, takes)):
            yield pair(item, takes)
            continue
        yield _gather(chain([item], islice(items, batch_size - 1)), takes)


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
    if isinstance(y, list) and len(x) == len(y) and all(map(is_number, y)):
        return True
    if not is_array(y):
        return False
    if x.ndim < 2 or not 0 < y.ndim <= x.ndim or len(x) != len(y):
        return False
    # Two batches in a list have as many axes; a column of one number a sample is no batch.
    if 1 < y.ndim < x.ndim or (y.ndim == 2 and y.shape[1] == 1 < x.shape[1]):
        raise LabelError(
            f"labels of shape {tuple(y.shape)} beside inputs of {tuple(x.shape)}: give the number "
            "of each sample's class, one axis (n,), as the network counts them"
        )
    return bool(y.ndim == 1)


def _is_sample(item: Any, takes: Container[str] = ()) -> bool:
    """Whether an item is a single sample: a picture, a text, or with a single number as label."""
    several = isinstance(item, Mapping | tuple | list)
    inputs, label = _parts(item, takes) if several else (item, None)
    single = is_number(label) or getattr(label, "ndim", None) == 0
    single = single or (isinstance(inputs, Mapping) and is_text(inputs))
    return single or is_picture(item) or (is_picture(inputs) and not isinstance(item, list))


def _is_sample_of_list(item: Any, takes: Container[str]) -> bool:
    """Whether an item of a batch that is a list is a sample, with its label or by names."""
    if isinstance(item, Mapping):  # labels may be in a dict of their own
        return any(name in (*IMAGE, *SEQUENCE) or name in takes for name in item)
    return isinstance(item, tuple) and _is_sample(item)


def _gather(items: Iterable[Any], takes: Container[str]) -> tuple[Inputs, Tensor | None]:
    """Samples as one batch; each is copied as it comes, before a loader fills it again."""
    samples: list[Any] = []
    labels: list[Tensor] = []
    others: list[Any] = []
    for item in items:
        if isinstance(item, tuple | list) and len(item) == 3:
            others.append(item[2])
        several = isinstance(item, Mapping | tuple | list)
        x, label = _parts(item, takes) if several else (item, None)
        samples.append(
            {n: (as_sample(v) if is_picture(v) else as_tensor(v)).clone() for n, v in x.items()}
            if isinstance(x, Mapping)
            else as_sample(x).clone()
        )
        number = as_labels(int(label) if isinstance(label, bool | np.bool_) else label)
        if number is not None:
            labels.append(number if number.is_floating_point() else number.long())
    example = samples[0]
    inputs = (
        {name: stacked([x[name] for x in samples]) for name in example}
        if isinstance(example, Mapping)
        else stacked(samples)
    )
    if len(labels) < len(samples):
        return inputs, None
    if len(shapes := {tuple(x.shape) for x in labels}) > 1:
        raise LabelError(f"labels must be one number a sample; seen shapes {sorted(shapes)}")
    if len(others) == len(samples) and all(map(is_number, others)):
        _warn_of_index(torch.stack(labels), others)
    return inputs, torch.stack(labels)


def count_of(inputs: Inputs | Prepared) -> int:
    """The number of samples."""
    if isinstance(inputs, Tensor):  # first, as most are
        return inputs.shape[0]
    inputs = inputs.inputs if isinstance(inputs, Prepared) else inputs
    tensor = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
    return tensor.shape[0]


def rows_of(inputs: Inputs, rows: slice) -> Inputs:
    """Some of the samples."""
    if isinstance(inputs, Mapping):
        return {name: x[rows] for name, x in inputs.items()}
    return inputs[rows]
