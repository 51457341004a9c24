"""A worker that runs a guard's network over shards, and collects or scores."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from offmap.activations import Sample
from offmap.activations import Shards as Spool
from offmap.data import Skipped, limit_decoding
from offmap.detectors import Collected, Task, collected_apart, through_spool, to_learn_on
from offmap.errors import DataError
from offmap.forward import Seen
from offmap.guard import Guard
from offmap.scale._moving import moved
from offmap.scale._session import library, versions
from offmap.scale._shards import Shard, Shards, all_corrupt, corrupt_in

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Settings:
    """Of a run, the same for all workers.

    Args:
        run: its name.
        threads: of torch and of decoding.
        device: where to run.
        share: of calibration data to learn on; ``None`` where all of it is learned from.
    """

    run: str
    threads: int
    device: str | None
    share: float | None

    @property
    def folder(self) -> Path:
        """For what later passes read, on each machine."""
        return Path(tempfile.gettempdir()) / f"offmap-{self.run}"


@dataclass
class Part:
    """What a shard gave.

    Args:
        collected: statistics, where some were asked for.
        seen: what went by.
        skipped: images that cannot be read.
        scores: ``(n, k)``, where they were asked for, with ``predictions`` and ``keys``.
    """

    collected: Collected = field(default_factory=Collected)
    seen: Seen = field(default_factory=lambda: Seen(hashing=False))
    skipped: tuple[Skipped, ...] = ()
    scores: Tensor | None = None
    predictions: Tensor | None = None
    keys: list[str] = field(default_factory=list)
    classes: int = 0


class Learner:
    """Collects statistics of shards, and scores them.

    Args:
        sent: references to the guard, whose network has run once, so that its head is known, and to
            the data, without images in memory.
        settings: of this run.
    """

    def __init__(self, sent: list[Any], settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        limit_decoding(settings.threads)
        guard: Guard
        shards: Shards
        # Here, as Ray does not keep the arguments of an actor for when it starts one again.
        guard, shards = library().get(sent)
        self.guard = guard if settings.device is None else guard.to(settings.device)
        self.shards, self.share = shards, settings.share
        self.folder = settings.folder

    def versions(self) -> dict[str, str]:
        """What results depend on, here."""
        return versions()

    def close(self) -> None:
        """Remove what was kept for later passes."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def collect(self, task: Task, shard: Shard) -> Part:
        """The statistics of a shard in one pass."""
        part = Part()
        for root in task.roots.values():
            root.to(self.device)
        with self._reading(shard, part) as batches:
            part.collected = collected_apart(task, self._spooled(task, shard, batches))
        if self.device != _CPU:
            part.collected.sums = moved(part.collected.sums, _CPU)
        return part

    def score(self, detectors: nn.ModuleList, shard: Shard) -> Part:
        """The scores of what is not learned from."""
        part = Part()
        self.guard.detectors = detectors.to(self.device)
        scores, predictions = [], []
        with self._reading(shard, part) as batches:
            for batch, _ in self._chosen(batches, learn=False):
                acts = batch.acts if isinstance(batch, Sample) else batch
                scores.append(self.guard.score_activations(batch).to(_CPU))
                predictions.append(acts.labels.to(_CPU))
                part.keys += acts.keys or ()
                part.classes = acts.logits.shape[1] if acts.has_logits else 0
        if scores:
            part.scores, part.predictions = torch.cat(scores), torch.cat(predictions)
        return part

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return next((x.device for x in self.guard.network.parameters()), _CPU)

    @contextmanager
    def _reading(self, shard: Shard, part: Part) -> Iterator[Iterator[Any]]:
        """The network over a shard, whose corrupt images are noted and told by whoever asked."""
        data = self.shards.open(shard)
        size = self.shards.batch_size
        with self.guard.probe, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield self.guard.passing(data, "shard", size, False, part.seen)
            except DataError:
                if not all_corrupt(data):
                    raise
        part.skipped = corrupt_in(data)

    def _chosen(self, batches: Iterator[Any], *, learn: bool) -> Iterator[Any]:
        """The samples to learn on, or the others; all of them where none are set apart."""
        for batch, labels in batches:
            if self.share is None:
                yield batch, labels
                continue
            acts = batch.acts if isinstance(batch, Sample) else batch
            rows = to_learn_on(acts.keys or (), self.share) == learn
            if rows.any():
                yield batch[rows], None if labels is None else labels[rows]

    def _spooled(self, task: Task, shard: Shard, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches to learn on, which are kept in the first pass for those that follow.

        A worker that comes new to a shard, as another has died, runs the network again.
        """
        chosen = self._chosen(batches, learn=True)
        if task.keep is None or self.guard.learns_from_inputs:
            return chosen
        spool = Spool(self.folder / f"{task.source}-{shard.number}")
        if spool.complete and task.number:
            return iter(spool)
        return through_spool(spool, chosen, task.keep, first_pass=True)
