"""Batches as loaders give them: inputs and labels of some samples, however they are wrapped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from typing import Any, TypeGuard

import numpy as np
import torch
from jaxtyping import UInt64
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

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
    inputs, labels = _parts(batch)
    return as_inputs(inputs), _as_labels(labels)


def _parts(batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        labels = next((batch[name] for name in LABEL if name in batch), None)
        return _named(batch), labels
    if isinstance(batch, tuple | list) and len(batch) and not _is_list_of_samples(batch):
        return batch[0], batch[1] if len(batch) > 1 else None
    return batch, None


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
        return {name: torch.as_tensor(x) for name, x in inputs.items()}
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "iufb":
        return _channels_first(torch.from_numpy(np.ascontiguousarray(inputs)))
    if _is_picture(inputs):
        return as_sample(inputs)[None]
    if isinstance(inputs, tuple | list) and len(inputs):
        return stacked([as_sample(x) for x in inputs])
    raise DataError(
        "a batch must be (inputs, labels), inputs alone, or a dict with 'image' and 'label', with "
        f"tensors, arrays or pictures inside; seen {type(inputs).__name__}"
    )


def as_sample(x: Any) -> Tensor:
    """One sample as a tensor; pictures as uint8 with channels first.

    Raises:
        DataError: it is none, or a picture that cannot be read.
    """
    if isinstance(x, Tensor):
        return x
    if _is_picture(x):
        from offmap._utils.pictures import pixels_of  # with Pillow, which is there if x is

        try:
            return torch.from_numpy(pixels_of(x))
        except (ValueError, OSError, SyntaxError) as error:  # floats, or a file that is torn
            raise DataError(f"a picture cannot be read: {error}") from error
    if isinstance(x, np.ndarray) and x.dtype.kind in "iufb":
        return _channels_first(torch.from_numpy(np.ascontiguousarray(x))[None])[0]
    raise DataError(f"a sample must be a tensor, an array or a picture; seen {type(x).__name__}")


def pictures_in(inputs: Any) -> list[Any]:
    """The pictures of Pillow, where it is one, or a batch of nothing else."""
    if _is_picture(inputs):
        return [inputs]
    several = isinstance(inputs, tuple | list) and all(map(_is_picture, inputs))
    return list(inputs) if several else []


def stacked(samples: Sequence[Tensor]) -> Tensor:
    """One batch of several samples.

    Raises:
        DataError: they differ in shape.
    """
    if len(shapes := {tuple(x.shape) for x in samples}) > 1:
        raise DataError(
            f"samples of one batch must have one shape; seen {sorted(shapes)}: bring them to one "
            "size, or give a DataLoader that pads them"
        )
    return torch.stack(list(samples))


def _channels_first(x: Tensor) -> Tensor:
    """Pictures of arrays ``(n, h, w, 3)`` as ``(n, 3, h, w)``, where no other reading is left."""
    last = x.dtype == torch.uint8 and x.ndim == 4 and x.shape[3] in (1, 3)
    return x.permute(0, 3, 1, 2) if last and x.shape[1] not in (1, 3) else x


def _is_picture(x: Any) -> bool:
    return hasattr(x, "getbands") and hasattr(x, "convert")  # Pillow's, without importing it


def _is_array(x: Any) -> TypeGuard[Any]:
    return isinstance(x, Tensor | np.ndarray)


def _are_numbers(x: Any) -> bool:
    return _is_array(x) or (isinstance(x, list) and _as_labels(x) is not None)


def _is_list_of_samples(batch: Sequence[Any]) -> bool:
    """Whether a list holds samples, and not inputs and labels."""
    if all(map(_is_picture, batch)):
        return True
    shapes = {tuple(x.shape) if _is_array(x) else () for x in batch}
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
    return torch.from_numpy(array) if array.dtype.kind in "iuf" else None


def batches_of(data: Any, batch_size: int) -> Iterator[tuple[Inputs, Tensor | None]]:
    """Batches of any iterable; samples, and arrays of all of them, are cut into batches.

    Raises:
        DataError: a batch holds nothing that a network could be given.
    """
    if _is_array(data) or isinstance(data, Mapping) or _are_arrays(data):
        inputs, labels = pair(data)
        if labels is None and _are_arrays(data):
            raise LabelError(
                f"labels of {data[1].dtype}: give the number of each sample's class, as the "
                "network counts them"
            )
        for start in range(0, count_of(inputs), batch_size):
            rows = slice(start, start + batch_size)
            yield rows_of(inputs, rows), None if labels is None else labels[rows]
        return
    indexed = isinstance(data, Dataset) and not isinstance(data, IterableDataset)
    items = (data[i] for i in range(len(data))) if indexed else iter(data)
    for item in items:
        if not (indexed or _is_sample(item)):
            yield pair(item)
            continue
        yield _gathered(chain([item], islice(items, batch_size - 1)))


def _are_arrays(data: Any) -> bool:
    """Whether it is inputs and labels of all samples.

    Raises:
        LabelError: it is, and the labels are columns or rows.
    """
    if not isinstance(data, tuple | list) or len(data) != 2 or not all(map(_is_array, data)):
        return False
    x: Any
    y: Any
    x, y = data
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
    alone = isinstance(label, int | np.integer) or getattr(label, "ndim", None) == 0
    return alone or _is_picture(item) or (_is_picture(inputs) and not isinstance(item, list))


def _gathered(items: Iterable[Any]) -> tuple[Inputs, Tensor | None]:
    """Samples as one batch; each is copied as it comes, before a loader fills it again."""
    samples: list[Any] = []
    labels: list[Tensor] = []
    for item in items:
        x, label = _parts(item) if isinstance(item, Mapping | tuple | list) else (item, None)
        samples.append(
            {name: torch.as_tensor(value).clone() for name, value in x.items()}
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


def hashes_of(inputs: Inputs, *, at_most: int | None = None) -> UInt64[np.ndarray, " n"]:
    """A hash of each sample's types, shapes and values.

    Args:
        inputs: of ``n`` samples.
        at_most: so many bytes of a sample are hashed, evenly spaced; by default all.
    """
    named = {"": inputs} if isinstance(inputs, Tensor) else inputs
    kinds = " ".join(f"{x.dtype} {tuple(x.shape[1:])}" for _, x in sorted(named.items())).encode()
    columns = [_bytes_of(named[name], at_most) for name in sorted(named)]
    return np.fromiter((_hash(kinds, row) for row in zip(*columns, strict=True)), np.uint64)


def _bytes_of(x: Tensor, at_most: int | None) -> list[Any]:
    flat = x.detach().reshape(len(x), -1)
    step = max(1, -(-flat.shape[1] * flat.element_size() // at_most)) if at_most else 1
    rows = flat[:, ::step].cpu().contiguous()
    return list(rows.view(torch.uint8).numpy())


def _hash(kinds: bytes, row: tuple[Any, ...]) -> int:
    digest = blake2b(kinds, digest_size=8)
    for values in row:
        digest.update(values.data)
    return int.from_bytes(digest.digest(), "little")
