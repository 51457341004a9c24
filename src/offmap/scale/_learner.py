"""A worker that runs a guard's network over shards, and collects or scores."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from offmap.activations import Shards as Spool
from offmap.data import limit_decoding
from offmap.detectors import Task, collected_apart, through_spool
from offmap.errors import DataError
from offmap.guard import Guard
from offmap.guard.calibration_data import acts_of, part_of
from offmap.scale._folder import held, remove_abandoned
from offmap.scale._part import Part, Settings, on_device
from offmap.scale._session import library, versions
from offmap.scale._shards import Shard, Shards, all_corrupt, corrupt_in, finite

_CPU = torch.device("cpu")


class Learner:
    """Collects statistics of shards, and scores them.

    Args:
        settings: of this run.
    """

    guard: Guard
    shards: Shards

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        limit_decoding(settings.threads)
        self.settings = settings
        self.loaded = False
        remove_abandoned()
        self.lock = held(settings.folder)  # until this process ends, however it does

    def _load(self, sent: list[Any]) -> None:
        """Get what all tasks share, with the first task: Ray would keep arguments of a start."""
        if self.loaded:
            return
        self.guard, self.shards = library().get(sent)
        if self.settings.device is not None:
            self.guard.to(self.settings.device)
        self.loaded = True

    def versions(self) -> dict[str, str]:
        """The versions that results depend on, in this worker."""
        return versions()

    def close(self) -> None:
        """Remove the files for later passes."""
        shutil.rmtree(self.settings.folder, ignore_errors=True)

    def collect(self, sent: list[Any], task: Task, shard: Shard) -> Part:
        """The statistics of a shard in one pass.

        Args:
            sent: references to the guard, whose network has run once, so that its head is known,
                and to the data, without images in memory.
            task: the statistics to collect.
            shard: to collect them from.
        """
        self._load(sent)
        part = Part()
        for root in task.roots.values():
            root.to(self.device)
        with self._reading(shard, part, strict=self.settings.share is None) as batches:
            part.collected = collected_apart(task, self._spooled(task, shard, batches))
        if self.device != _CPU:
            part.collected.sums = on_device(part.collected.sums, _CPU)
        return part

    def score(self, sent: list[Any], detectors: nn.ModuleList, shard: Shard) -> Part:
        """The scores of the samples that are not learned on; arguments as for :meth:`collect`."""
        self._load(sent)
        part = Part()
        self.guard.detectors = detectors.to(self.device)
        scores, predictions = [], []
        with self._reading(shard, part, strict=False) as batches:
            for batch, _ in self._subset(batches, learn=False):
                acts = acts_of(batch)
                scores.append(self.guard.calibration_scores(batch).to(_CPU))
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
    def _reading(self, shard: Shard, part: Part, *, strict: bool) -> Iterator[Iterator[Any]]:
        """The network over a shard; its corrupt images are noted, for the caller to report."""
        data = self.shards.open(shard)
        size = self.shards.batch_size
        with self.guard.probe, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                batches = self.guard.passing(data, "shard", size, False, part.seen, strict=False)
                yield finite(batches, self.shards.start(shard)) if strict else batches
            except DataError:
                if not all_corrupt(data):
                    raise
        part.skipped = corrupt_in(data)

    def _subset(self, batches: Iterator[Any], *, learn: bool) -> Iterator[Any]:
        """The samples to learn on, or the others; all of them where none are set apart."""
        for batch, labels in batches:
            if self.settings.share is None:
                yield batch, labels
                continue
            keys = acts_of(batch).keys or ()
            yield from part_of(batch, labels, keys, self.settings.share, learn=learn)

    def _spooled(self, task: Task, shard: Shard, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches to learn on, kept on disk in the first pass for later ones.

        A worker that takes over a shard, as another has died, runs the network again.
        """
        subset = self._subset(batches, learn=True)
        if task.keep is None or self.guard.learns_from_inputs:
            return subset
        spool = Spool(self.settings.folder / f"{task.source}-{shard.number}")
        if spool.complete and task.number:
            return iter(spool)
        return through_spool(spool, subset, task.keep, first_pass=True)
