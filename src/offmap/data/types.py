"""The types of data: what a network is given, and where batches of it come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from offmap._utils.arguments import did_you_mean
from offmap.errors import UnknownNameError

Inputs: TypeAlias = Tensor | Mapping[str, Tensor]
"""What a network is given for a batch: one tensor, or tensors by name.

Images are one tensor ``(n, c, h, w)``; text is ``{"input_ids": ..., "attention_mask": ...}``. The
first axis of every tensor counts the samples.
"""

Images: TypeAlias = UInt8[Tensor, "n c h w"] | Float32[Tensor, "n c h w"]
"""Pixels from 0 to 255 as uint8, or normalised ones as float32."""

Labels: TypeAlias = Int64[Tensor, " n"] | None
"""A class index for each sample, or ``None`` where there are none."""

Batch: TypeAlias = tuple[Images, Labels]
"""Images and labels of some samples."""

KeyedBatch: TypeAlias = tuple[Images, Labels, tuple[str, ...]]
"""A batch with the key of each sample: the path of its file, or its row."""

Resize: TypeAlias = Literal["crop", "squash"]
"""How an image is brought to a size.

``crop`` scales it until it covers the size and cuts out the centre; ``squash`` scales height and
width by themselves, which shows all of the image and changes its proportions.
"""

RESIZE: tuple[Resize, ...] = get_args(Resize)


def check_resize(name: str) -> Resize:
    """The name of a way to resize, if it is one.

    Raises:
        UnknownNameError: it is not.
    """
    for resize in RESIZE:
        if name == resize:
            return resize
    raise UnknownNameError(
        f"no resize {name!r}: {did_you_mean(name, RESIZE)}there are {' and '.join(RESIZE)}"
    )


@runtime_checkable
class BatchedSet(Protocol):
    """Samples that can be read from any one on, such as the sets of ``offmap.data``."""

    def __len__(self) -> int: ...
    def batches(self, batch_size: int, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """Inputs and labels in order, from the sample at ``start`` on."""


Batches: TypeAlias = BatchedSet | Iterable[Any]
"""Where batches come from: a set with ``batches(batch_size, start)``, or any iterable of batches.

A batch of an iterable is a pair of inputs and labels, a mapping, or inputs alone. A data loader is
such an iterable.
"""
