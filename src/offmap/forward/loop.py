"""From data to activations, batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Unpack, runtime_checkable

from torch import Tensor, nn

from offmap._utils.arguments import whole
from offmap._utils.inputs import Inputs, batches_of, count_of
from offmap._utils.progress import progress
from offmap.activations import Batch, Sample, Shards
from offmap.errors import ArgumentError, DataError
from offmap.forward._company import few_of, warn_of_company
from offmap.forward.any_probe import AnyProbe
from offmap.forward.options import ProbeOptions, check_options
from offmap.forward.probes import probe_of
from offmap.forward.seen import Seen

Keyed = tuple[Inputs, Tensor | None, tuple[str, ...] | None]


@runtime_checkable
class Batched(Protocol):
    """Data that can be read from any sample on; ``offmap.data`` makes such sets."""

    def __len__(self) -> int: ...
    def batches(self, batch_size: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Batches of images and labels."""


def forward(
    network: nn.Module | AnyProbe,
    data: Any,
    *,
    batch_size: int = 256,
    cache: str | Path | None = None,
    seen: Seen | None = None,
    inputs: bool = False,
    strict: bool = True,
    description: str = "forward",
    show_progress: bool | None = None,
    **probe: Unpack[ProbeOptions],
) -> Iterator[Batch]:
    """Run a network over data, once, and yield its activations and the labels.

    Args:
        network: a classifier, or an open probe of :func:`probe_of`. Each member of an
            ensemble and each part of a cascade runs once.
        data: a set of ``offmap.data``; any iterable of batches: ``(inputs, labels)`` pairs,
            mappings with such keys (``pixel_values``, or ``input_ids`` and what belongs to it), or
            inputs alone; a ``torch.utils.data.Dataset``; arrays ``(X, y)`` of all samples.
        batch_size: samples a batch, for sets, data sets and arrays; loaders come in batches of
            their own.
        cache: folder for activations. Those stored under the same content key (weights, head
            layer, images, labels, transform, precision) are read back instead of running the
            network; an interrupted pass goes on. Only sets with a fingerprint are cached.
        seen: counts every batch, with its inputs where the network ran.
        inputs: yield samples, with which the network can be run again, instead of activations; they
            are not cached.
        strict: refuse NaN and infinity.
        description: text of the progress bar.
        show_progress: ``None`` shows it on a terminal.
        **probe: arguments of :class:`Probe`, if ``network`` is a classifier.

    Raises:
        DataError: there are no samples.
        ArgumentError: arguments of a probe are given beside a probe, or are unknown; or
            ``batch_size`` is no whole number.
        NonFiniteError: logits or features are NaN or infinite; says how many and which.
    """
    check_options(probe, forward)
    batch_size = whole("batch_size", batch_size)
    if isinstance(network, AnyProbe) and probe:
        raise ArgumentError(
            f"{', '.join(probe)}: arguments of a probe, and a probe is given, which has its "
            "own: give them where it is made"
        )
    opening = nullcontext(network) if isinstance(network, AnyProbe) else probe_of(network, **probe)
    seen = seen or Seen(labelled=False, hashing=False)
    telling = partial(progress, description, show=show_progress)
    name = getattr(data, "name", None) or description
    return _pass_over(
        opening, data, batch_size, cache, seen, telling, name, inputs=inputs, strict=strict
    )


def _pass_over(
    opening: AbstractContextManager[AnyProbe],
    data: Any,
    batch_size: int,
    cache: str | Path | None,
    seen: Seen,
    telling: Callable[[int | None], AbstractContextManager[Callable[[int], None]]],
    name: str,
    *,
    inputs: bool,
    strict: bool,
) -> Iterator[Batch]:
    with opening as probe:
        if inputs or cache is None or not getattr(data, "fingerprint", None):
            source = _inputs_of(data, batch_size, 0, probe.takes)
            batches = _run_batches(probe, source, 0, seen, inputs=inputs, strict=strict)
        else:
            batches = _run_with_cache(probe, data, batch_size, Path(cache), seen, strict=strict)
        total = len(data) if isinstance(data, Batched) else None
        # Of a set alone: mappings have a method of that name, too.
        keys = None if total is None else getattr(data, "keys", None)
        with telling(total) as advance:
            for batch, labels in batches:
                acts = batch.acts if isinstance(batch, Sample) else batch
                if acts.keys is None:  # the name of each sample in the set, or its index
                    start, stop = seen.samples, seen.samples + len(acts)
                    indices = map(str, range(start, stop))
                    acts.keys = keys(start, stop) if callable(keys) else tuple(indices)
                seen.add(batch, labels)
                advance(len(batch))
                yield batch, labels
        if not seen.samples:
            raise DataError(f"{name}: there are no samples")


def cache_key(probe: AnyProbe, data: Any) -> str:
    """A hash of what shards depend on: network, layers, images, labels, precision."""
    labels = getattr(data, "label_fingerprint", None)
    content = (*probe.key(), data.fingerprint, labels, data.transform)
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _run_with_cache(
    probe: AnyProbe, data: Batched, batch_size: int, cache: Path, seen: Seen, *, strict: bool
) -> Iterator[Batch]:
    shards = Shards(cache / cache_key(probe, data)[:32])
    # Stored batches come first, and detectors need the head before the network runs again.
    if not probe.knows_head and (shards.complete or shards.head is not None):
        probe.adopt(shards.head)

    def run(start: int) -> Iterator[Batch]:
        source = _inputs_of(data, batch_size, start, probe.takes)
        return _run_batches(probe, source, start, seen, strict=strict)

    keys, stored = getattr(data, "keys", None), 0
    for batch in shards.through(run):
        if not shards.complete and shards.head is None:
            shards.head = probe.head
        acts, labels = batch
        if strict:  # a pass that was not may have stored these
            acts.check_finite(start=stored)
        if callable(keys):  # the images may have had other names when they were stored
            acts.keys = keys(stored, stored + len(acts))
        stored += len(acts)
        yield acts.to(probe.home), None if labels is None else labels.to(probe.home)


def _run_batches(
    probe: AnyProbe,
    batches: Iterable[Keyed],
    start: int,
    seen: Seen,
    *,
    inputs: bool = False,
    strict: bool = True,
) -> Iterator[Any]:
    for batch, labels, keys in batches:
        network_inputs = probe.taken(batch)
        seen.look_at(network_inputs)  # before the network, which may work in place on it
        few = few_of(network_inputs) if seen.comparing else None
        sample = probe.sample(network_inputs) if inputs else None
        acts = probe(network_inputs) if sample is None else sample.acts
        acts.keys = keys
        if few is not None:
            seen.comparing = False
            warn_of_company(probe, few, acts)
        if strict:
            acts.check_finite(start=start)
        start += len(acts)
        # Loaders fill the same labels again, too.
        yield sample or acts, None if labels is None else labels.to(acts.device, copy=True)


def _inputs_of(data: Any, batch_size: int, start: int, takes: frozenset[str]) -> Iterator[Keyed]:
    if hasattr(data, "keyed_batches"):  # a set whose damaged samples are passed over
        yield from data.keyed_batches(batch_size, start)
        return
    batched = isinstance(data, Batched)
    batches = data.batches(batch_size, start) if batched else batches_of(data, batch_size, takes)
    for inputs, labels in batches:
        if count_of(inputs):
            yield inputs, labels, None
