"""Fitting and calibrating by Ray: statistics come back from shards, are added, and solved once."""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from offmap._utils.arguments import whole
from offmap._utils.progress import progress
from offmap._utils.warning import warn_user
from offmap.activations import Activations, Sample
from offmap.data import Skipped, skipped_in_words
from offmap.detectors import Collected, Fitting, Spread, Task, passes
from offmap.errors import ArgumentError, DataError, LeftOutWarning
from offmap.forward import Seen
from offmap.guard import Guard
from offmap.scale._learner import Learner, Part, Settings
from offmap.scale._moving import moved
from offmap.scale._pool import Pool
from offmap.scale._session import session
from offmap.scale._shards import Shards

_OF_FILES = "offmap_user_"  # modules that stand in a file the user named


def fit(
    guard: Guard,
    data: Any,
    *,
    workers: int = 2,
    threads: int = 1,
    batch_size: int = 256,
    device: str | None = None,
    show_progress: bool | None = None,
) -> Guard:
    """Fit a guard as :meth:`Guard.fit` does, with several processes over shards of the data.

    In each pass every shard of sixteen or more batches gives its statistic, the statistics are
    added here in the order of the shards, and solved once; what was learned goes out with the next
    pass. A shard counts once, by its number, whatever became of the worker that had it. So the
    detectors are those of one process: banks to the bit, sums to 1e-10 of their size; for any
    number of workers they are equal to the bit. The network runs once over each shard, as what
    later passes read is kept on the disk of the worker. For Ray sessions see :func:`score`.

    It takes every detector, as their statistics add, with what it is made of. Samples that stand
    in two sets are not looked for, since hashes of all samples would have to be held here.

    Args:
        guard: is fitted in place, and sent to the workers with its network.
        data: a set of ``offmap.data``, its name or path; or an object with ``len`` and
            ``batches(batch_size, start)`` that can be pickled. Sets that are streamed are read by
            the workers, under the same paths.
        workers: processes.
        threads: of torch and of decoding, in each.
        batch_size: samples a batch.
        device: of the workers, each of which takes one GPU if it is "cuda".
        show_progress: ``None`` shows a bar on a terminal.

    Raises:
        ArgumentError: a loader, or a network that cannot be sent; or as for :func:`score`.
        MissingExtraError: Ray is not installed.
    """
    with _Workers(workers, threads, device, show_progress) as spread:
        return guard.fit(data, batch_size=batch_size, spread=spread, show_progress=False)


def calibrate(
    guard: Guard,
    data: Any,
    alarm_rate: Any = 0.05,
    *,
    workers: int = 2,
    threads: int = 1,
    batch_size: int = 256,
    device: str | None = None,
    show_progress: bool | None = None,
    **options: Any,
) -> Guard:
    """Calibrate a guard as :meth:`Guard.calibrate` does, with several processes.

    Detectors that learn on calibration data do so as in :func:`fit`; scores come back in order.

    Args:
        guard: is calibrated in place.
        data: as for :func:`fit`.
        alarm_rate: as for :meth:`Guard.calibrate`.
        workers: processes.
        threads: of torch and of decoding, in each.
        batch_size: samples a batch.
        device: of the workers.
        show_progress: ``None`` shows a bar on a terminal.
        **options: ``confidence``, ``per_class``, ``pool``, ``learn_share``; ``groups`` are for one
            process.

    Raises:
        ArgumentError: as for :func:`fit`, and for :meth:`Guard.calibrate`.
    """
    with _Workers(workers, threads, device, show_progress) as spread:
        return guard.calibrate(
            data, alarm_rate, batch_size=batch_size, spread=spread, show_progress=False, **options
        )


class _Workers:
    """Ray for one fit or calibration: see :class:`offmap.guard.spreading.Spreading`."""

    def __init__(self, workers: int, threads: int, device: str | None, show: bool | None) -> None:
        self.workers, self.threads = whole("workers", workers), whole("threads", threads)
        self.device, self.show = device, show

    def __enter__(self) -> _Workers:
        gpus = self.workers * int(str(self.device).startswith("cuda"))
        self._stack = ExitStack()
        self.ray = self._stack.enter_context(session(self.workers * self.threads, gpus))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def over(
        self, guard: Guard, data: Any, first: Activations | Sample, batch_size: int, seen: Seen
    ) -> Spread:
        """The data to fit on, in shards."""
        return self._sharded(guard, data, first, batch_size, seen, None)

    def scored(
        self, guard: Guard, data: Any, learn_share: float, batch_size: int, seen: Seen
    ) -> tuple[Tensor, Tensor, int, list[str]]:
        """Calibration data: learned from, and the rest scored."""
        learns = any(passes(each, "calibration") for each in guard.each())
        first = next(guard.passing(data, "calibrate", batch_size, False))[0]
        fitting = guard.fitting()
        sharded = self._sharded(
            guard, data, first, batch_size, seen, learn_share if learns else None
        )
        fitting.learn("calibration", sharded)
        fitting.bind(first)
        return sharded.scored(guard)

    def _sharded(
        self,
        guard: Guard,
        data: Any,
        first: Activations | Sample,
        batch_size: int,
        seen: Seen,
        share: float | None,
    ) -> _Sharded:
        shards = Shards(data, batch_size)
        sent = guard.to_send()
        gpus = int(str(self.device).startswith("cuda"))
        settings = Settings(uuid.uuid4().hex, self.threads, self.device, share)
        self._stack.callback(shutil.rmtree, settings.folder, ignore_errors=True)
        pool = Pool(
            self.ray,
            Learner,
            [[self._put(sent), self._put(shards.without_images())], settings],
            workers=self.workers,
            threads=self.threads,
            gpus=gpus,
        )
        self._stack.enter_context(pool)
        return _Sharded(pool, shards, first, seen, getattr(data, "name", "the data"), self.show)

    def _put(self, value: Any) -> Any:
        """A reference to what every worker gets.

        Raises:
            ArgumentError: it cannot be sent.
        """
        for name in _modules_of(value):
            self.ray.cloudpickle.register_pickle_by_value(sys.modules[name])
        try:
            return self.ray.put(value)
        except Exception as error:  # whatever the parts of a network raise
            raise ArgumentError(
                f"the {type(value).__name__.lower()} cannot be sent to workers "
                f"({str(error).strip().splitlines()[0]}): fit in one process, without an engine"
            ) from error


def _modules_of(value: Any) -> set[str]:
    """Modules of files that the user named, which workers do not find by name."""
    modules = value.modules() if isinstance(value, torch.nn.Module) else ()
    names = {type(module).__module__ for module in modules}
    for part in getattr(value, "parts", ()):
        names.add(getattr(getattr(getattr(part, "own", None), "function", None), "__module__", ""))
    return {name for name in names if name.startswith(_OF_FILES)}


class _Sharded(Spread):
    """Data in shards, over which workers make the passes."""

    def __init__(
        self,
        pool: Pool,
        shards: Shards,
        first: Activations | Sample,
        seen: Seen,
        name: str,
        show: bool | None,
    ) -> None:
        self.pool, self.shards, self.first = pool, shards, first
        self.seen, self.name, self.show = seen, name, show
        self.homes: dict[int, int] = {}
        self._looked = False  # whether a whole pass went by

    def collect(self, task: Task, fitting: Fitting) -> Iterator[Collected]:
        """What each shard gives, in order."""
        device = _acts(self.first).device
        sent = self.pool.ray.put(task)
        for part in self._parts("collect", sent, f"{task.source}, pass {task.number + 1}"):
            part.collected.sums = moved(part.collected.sums, device)
            yield part.collected

    def scored(self, guard: Guard) -> tuple[Tensor, Tensor, int, list[str]]:
        """Scores, predictions, the number of classes and the keys of all samples."""
        parts = list(self._parts("score", self.pool.ray.put(guard.detectors), "calibrate"))
        full = [part for part in parts if part.scores is not None and part.predictions is not None]
        if not full:
            raise DataError("there are no samples to calibrate on: give more calibration data")
        device = _acts(self.first).device
        scores = torch.cat([part.scores for part in full if part.scores is not None])
        labels = torch.cat([part.predictions for part in full if part.predictions is not None])
        keys = [key for part in full for key in part.keys]
        return scores.to(device), labels.to(device), full[-1].classes, keys

    def _parts(self, method: str, argument: Any, words: str) -> Iterator[Part]:
        skipped: list[Skipped] = []
        samples = sum(len(rows) for _, rows in self.shards.cuts)
        tasks = ((argument, shard) for shard in self.shards.to_send())
        with progress(words, samples, show=self.show) as advance:
            for number, part in enumerate(self.pool.ordered(method, tasks, self.homes)):
                if not self._looked:
                    if not number:
                        self.seen.restart()
                    self.seen.extend(part.seen)
                    skipped += part.skipped
                advance(len(self.shards.cuts[number][1]))
                yield part
        self._looked = True
        if line := skipped_in_words(self.name, skipped):
            warn_user(line, LeftOutWarning)


def _acts(x: Activations | Sample) -> Activations:
    return x.acts if isinstance(x, Sample) else x
