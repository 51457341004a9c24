"""Data in shards, over which workers make the passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from offmap._utils.progress import progress
from offmap._utils.warning import warn_user
from offmap.activations import Activations, Sample
from offmap.data import Skipped, skipped_in_words
from offmap.detectors import Collected, Fitting, Spread, Task
from offmap.errors import DataError, LeftOutWarning
from offmap.forward import Seen
from offmap.guard import Guard
from offmap.guard.calibration_data import acts_of
from offmap.scale._part import Part, on_device
from offmap.scale._pool import Pool
from offmap.scale._shards import Shards


class Sharded(Spread):
    """Data in shards.

    Args:
        pool: of learners.
        references: to the objects that all of them get.
        shards: of the data.
        first: activations of the first batch.
        seen: counts the samples of the first pass.
        name: of the data, for messages.
        show: whether a bar is shown.
    """

    def __init__(
        self,
        pool: Pool,
        references: list[Any],
        shards: Shards,
        first: Activations | Sample,
        seen: Seen,
        name: str,
        show: bool | None,
    ) -> None:
        self.pool, self.shards, self.first = pool, shards, first
        self.references = references
        self.seen, self.name, self.show = seen, name, show
        self.homes: dict[int, int] = {}
        self._counted = False  # whether a first pass is complete

    def collect(self, task: Task, fitting: Fitting) -> Iterator[Collected]:
        """The statistics of each shard, in order."""
        device = acts_of(self.first).device
        sent = self.pool.ray.put(task)
        for part in self._parts("collect", sent, f"{task.source}, pass {task.number + 1}"):
            part.collected.sums = on_device(part.collected.sums, device)
            yield part.collected

    def scored(self, guard: Guard) -> tuple[Tensor, Tensor, int, list[str]]:
        """Scores, predictions, the number of classes and the keys of all samples."""
        parts = self._parts("score", self.pool.ray.put(guard.detectors), "calibrate")
        scored = [part for part in parts if part.scores is not None]
        if not scored:
            raise DataError("there are no samples to calibrate on: give more calibration data")
        device = acts_of(self.first).device
        scores = torch.cat([part.scores for part in scored if part.scores is not None])
        labels = torch.cat([part.predictions for part in scored if part.predictions is not None])
        keys = [key for part in scored for key in part.keys]
        return scores.to(device), labels.to(device), scored[-1].classes, keys

    def _parts(self, method: str, argument: Any, words: str) -> Iterator[Part]:
        skipped: list[Skipped] = []
        samples = sum(len(rows) for _, rows in self.shards.cuts)
        tasks = ((self.references, argument, shard) for shard in self.shards.to_send())
        with progress(words, samples, show=self.show) as advance:
            for number, part in enumerate(self.pool.ordered(method, tasks, self.homes)):
                if not self._counted:
                    if not number:
                        self.seen.restart()
                    self.seen.extend(part.seen)
                    skipped += part.skipped
                advance(len(self.shards.cuts[number][1]))
                yield part
        self._counted = True
        if line := skipped_in_words(self.name, skipped):
            warn_user(line, LeftOutWarning)
