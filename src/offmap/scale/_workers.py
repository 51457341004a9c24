"""Ray for one fit or calibration of a guard."""

from __future__ import annotations

import shutil
import uuid
from contextlib import ExitStack
from typing import Any

from torch import Tensor

from offmap._utils.arguments import whole
from offmap.activations import Activations, Sample
from offmap.detectors import Spread, passes
from offmap.forward import Seen
from offmap.guard import Guard
from offmap.scale._learner import Learner
from offmap.scale._part import Settings
from offmap.scale._pool import Pool
from offmap.scale._sending import put
from offmap.scale._session import gpus_of, session
from offmap.scale._sharded import Sharded
from offmap.scale._shards import Shards


class Workers:
    """Ray for one fit or calibration: see :class:`offmap.guard.spreading.Spreading`."""

    def __init__(self, workers: int, threads: int, device: str | None, show: bool | None) -> None:
        self.workers, self.threads = whole("workers", workers), whole("threads", threads)
        self.device, self.show = device, show

    def __enter__(self) -> Workers:
        gpus = self.workers * gpus_of(self.device)
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
        """Calibration data: detectors learn on their share, and the other samples are scored."""
        learns = any(passes(each, "calibration") for each in guard.each())
        first = next(guard.passing(data, "calibrate", batch_size, False, strict=False))[0]
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
    ) -> Sharded:
        shards = Shards(data, batch_size)
        copy = guard.to_send()
        settings = Settings(uuid.uuid4().hex, self.threads, self.device, share)
        self._stack.callback(shutil.rmtree, settings.folder, ignore_errors=True)
        pool = Pool(
            self.ray,
            Learner,
            [settings],
            workers=self.workers,
            threads=self.threads,
            gpus=gpus_of(self.device),
        )
        self._stack.enter_context(pool)
        references = [put(self.ray, copy), put(self.ray, shards.without_images())]
        name = str(getattr(data, "name", "the data"))
        return Sharded(pool, references, shards, first, seen, name, self.show)
