"""From data to activations, batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from offmap._utils.progress import progress
from offmap.activations import Activations, Batch, Sample, Shards
from offmap.errors import DataError
from offmap.forward.any_probe import AnyProbe
from offmap.forward.probes import probe_of


@runtime_checkable
class Batched(Protocol):
    """Data that can be read from any sample on; ``offmap.data`` makes such sets."""

    def __len__(self) -> int: ...
    def batches(self, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Batches of images and labels."""


def forward(
    network: nn.Module | AnyProbe,
    data: Batched | Iterable[Any],
    *,
    batch_size: int = 256,
    cache: str | Path | None = None,
    inputs: bool = False,
    description: str = "forward",
    show_progress: bool | None = None,
    **probe: Any,
) -> Iterator[Batch]:
    """Run a network over data, once, and yield its activations and the labels.

    Args:
        network: a classifier, or what :func:`probe_of` gives for one, open. Each member of an
            ensemble and each part of a cascade runs once.
        data: a set of ``offmap.data``, or any iterable of batches: ``(images, labels)`` pairs,
            dicts with such keys, or images alone.
        batch_size: samples a batch, for sets; other iterables come in batches of their own.
        cache: folder for activations. What lies there under the same content key (weights, head
            layer, images, labels, transform, precision) is read back instead of running the
            network; an interrupted pass goes on. Only sets with a fingerprint are cached.
        inputs: yield samples, with which a network can be run again, in the place of activations;
            they are not cached.
        description: what the progress bar says.
        show_progress: ``None`` shows it on a terminal.
        **probe: arguments of :class:`Probe`, if ``network`` is a classifier.

    Raises:
        DataError: there are no samples.
        NonFiniteError: logits or features are NaN or infinite; says how many and which.
    """
    with _opening(network, probe) as open_:
        if inputs or cache is None or not getattr(data, "fingerprint", None):
            batches = _run(open_, _read(data, batch_size, 0), 0, inputs=inputs)
        else:
            batches = _cached(open_, data, batch_size, Path(cache))  # type: ignore[arg-type]
        total = len(data) if isinstance(data, Batched) else None
        seen = 0
        with progress(description, total, show=show_progress) as advance:
            for acts, labels in batches:
                _name(acts, data, seen)
                seen += len(acts)
                advance(len(acts))
                yield acts, labels
        if not seen:
            raise DataError(f"{getattr(data, 'name', 'the data')}: there are no samples")


def _opening(
    network: nn.Module | AnyProbe, options: dict[str, Any]
) -> AbstractContextManager[AnyProbe]:
    if isinstance(network, AnyProbe):
        return nullcontext(network)
    return probe_of(network, **options)


def cache_key(probe: AnyProbe, data: Any) -> str:
    """The content that shards depend on, as a hash: network, layers, images, labels, precision."""
    labels = getattr(data, "label_fingerprint", None)
    content = (*probe.key(), data.fingerprint, labels, data.transform)
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _cached(probe: AnyProbe, data: Batched, batch_size: int, cache: Path) -> Iterator[Batch]:
    shards = Shards(cache / cache_key(probe, data)[:32])
    # Stored batches come first, and detectors ask for the head before the network runs again.
    if not probe.knows_head and (shards.complete or shards.head is not None):
        probe.adopt(shards.head)
    for batch in shards.through(lambda start: _run(probe, _read(data, batch_size, start), start)):
        if not shards.complete and shards.head is None:
            shards.head = probe.head
        acts, labels = batch
        yield acts.to(probe.device), None if labels is None else labels.to(probe.device)


def _run(
    probe: AnyProbe,
    batches: Iterable[tuple[Tensor, Tensor | None]],
    start: int,
    *,
    inputs: bool = False,
) -> Iterator[Any]:
    for images, labels in batches:
        if probe.input_shape is None and images.ndim == 4:
            _, channels, height, width = images.shape
            probe.input_shape = channels, height, width
        sample = probe.sample(images) if inputs else None
        acts = probe(images) if sample is None else sample.acts
        acts.check_finite(start=start)
        start += len(acts)
        yield sample or acts, None if labels is None else labels.to(acts.device)


def _name(batch: Activations | Sample, data: Any, start: int) -> None:
    """Give each sample its key: what its set calls it, or its place."""
    acts = batch.acts if isinstance(batch, Sample) else batch
    stop = start + len(acts)
    of = getattr(data, "keys", None)
    acts.keys = of(start, stop) if callable(of) else tuple(map(str, range(start, stop)))


def _read(
    data: Batched | Iterable[Any], batch_size: int, start: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    if isinstance(data, Batched):
        yield from data.batches(batch_size, start)
        return
    for batch in data:
        images, labels = _pair(batch)
        if len(images):
            yield images, labels


def _pair(batch: Any) -> tuple[Tensor, Tensor | None]:
    """Images and labels of a batch, however a loader gives them."""
    if isinstance(batch, dict):
        images = next(
            (batch[k] for k in ("images", "image", "pixel_values", "x") if k in batch), None
        )
        labels = next((batch[k] for k in ("labels", "label", "y") if k in batch), None)
    elif isinstance(batch, tuple | list):
        images, labels = batch[0], batch[1] if len(batch) > 1 else None
    else:
        images, labels = batch, None
    labels = _as_labels(labels)
    if not isinstance(images, Tensor):
        raise DataError(
            "a batch must be (images, labels), images alone, or a dict with 'image' and 'label', "
            f"with tensors inside; seen {type(batch).__name__}"
        )
    return images, labels


def _as_labels(given: Any) -> Tensor | None:
    """Labels, if it is numbers that stand beside the images: loaders also give paths or targets."""
    if isinstance(given, Tensor):
        return given
    try:
        array = np.asarray(given)
    except (ValueError, TypeError):  # lists of different lengths
        return None
    return torch.from_numpy(array) if array.dtype.kind in "iuf" else None
