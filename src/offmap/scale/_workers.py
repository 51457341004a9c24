"""Ray for one fit or calibration of a guard."""

from __future__ import annotations

import shutil
import sys
import uuid
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from offmap._utils.arguments import whole
from offmap.activations import Activations, Sample
from offmap.detectors import Spread, passes
from offmap.errors import ArgumentError
from offmap.forward import Seen
from offmap.guard import Guard
from offmap.scale._learner import Learner
from offmap.scale._part import Settings
from offmap.scale._pool import Pool
from offmap.scale._session import session
from offmap.scale._sharded import Sharded
from offmap.scale._shards import Shards

_OF_FILES = "offmap_user_"  # modules that stand in a file the user named


class Workers:
    """Ray for one fit or calibration: see :class:`offmap.guard.spreading.Spreading`."""

    def __init__(self, workers: int, threads: int, device: str | None, show: bool | None) -> None:
        self.workers, self.threads = whole("workers", workers), whole("threads", threads)
        self.device, self.show = device, show

    def __enter__(self) -> Workers:
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
    ) -> Sharded:
        shards = Shards(data, batch_size)
        sent = guard.to_send()
        gpus = int(str(self.device).startswith("cuda"))
        settings = Settings(uuid.uuid4().hex, self.threads, self.device, share)
        self._stack.callback(shutil.rmtree, settings.folder, ignore_errors=True)
        pool = Pool(
            self.ray,
            Learner,
            [settings],
            workers=self.workers,
            threads=self.threads,
            gpus=gpus,
        )
        self._stack.enter_context(pool)
        references = [self._put(sent), self._put(shards.without_images())]
        name = str(getattr(data, "name", "the data"))
        return Sharded(pool, references, shards, first, seen, name, self.show)

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
    modules = value.modules() if isinstance(value, nn.Module) else ()
    names = {type(module).__module__ for module in modules}
    for part in getattr(value, "parts", ()):
        names.add(getattr(getattr(getattr(part, "own", None), "function", None), "__module__", ""))
    return {name for name in names if name.startswith(_OF_FILES)}
