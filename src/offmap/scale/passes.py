"""A network that runs over shards of data in many processes, by Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from offmap._utils.arguments import whole
from offmap._utils.progress import progress
from offmap._utils.warning import warn_user
from offmap.activations import Batch
from offmap.data import skipped_in_words
from offmap.errors import DataError, LeftOutWarning
from offmap.forward import AnyProbe, Batched, Seen, forward
from offmap.scale._pool import Pool
from offmap.scale._runner import Passed, Runner
from offmap.scale._sending import put
from offmap.scale._session import gpus_of, session
from offmap.scale._shards import Shards


@dataclass
class Passes:
    """Takes the place of :func:`offmap.forward.forward` where workers run the network.

    Shards of sixteen or more batches of a set go to the workers, and their activations come back in
    order. Memory holds some shards of activations for each worker.

    Loaders, which only one process can walk, and data whose inputs are needed, as by detectors that
    follow gradients, are run in this process. For Ray sessions see :func:`offmap.scale.score`.

    Args:
        workers: processes.
        threads: of torch and of decoding, in each.
        device: of the workers, each of which takes one GPU if it is "cuda".

    Raises:
        ArgumentError: a network that cannot be sent; or as for :func:`offmap.scale.score`.
        MissingExtraError: Ray is not installed.
    """

    workers: int
    threads: int
    device: str | None
    stack: ExitStack = field(default_factory=ExitStack)
    pool: Pool | None = None
    sent: list[Any] = field(default_factory=list)

    def __enter__(self) -> Passes:
        self.workers = whole("workers", self.workers)
        self.threads = whole("threads", self.threads)
        self.gpus = gpus_of(self.device)
        slots = self.workers * self.threads
        self.ray = self.stack.enter_context(session(slots, self.workers * self.gpus))
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def __call__(
        self,
        probe: AnyProbe,
        data: Any,
        *,
        batch_size: int,
        cache: None,
        seen: Seen,
        inputs: bool,
        description: str,
        show_progress: bool | None,
    ) -> Iterator[Batch]:
        options: dict[str, Any] = {"batch_size": batch_size, "show_progress": show_progress}
        if inputs or not isinstance(data, Batched):
            yield from forward(
                probe, data, seen=seen, inputs=inputs, description=description, **options
            )
            return
        if self.pool is None:  # one batch here, for the head and the layout that all workers use
            list(islice(forward(probe, data, batch_size=batch_size, show_progress=False), 1))
        shards = Shards(data, batch_size)
        with progress(description, len(data), show=show_progress) as advance:
            for (i, rows), shard in zip(shards.cuts, self._shards(probe, shards), strict=True):
                # Labels are counted here, where it is known whether they are wanted.
                seen.take_hashes(shard.seen)
                for index, skipped in shard.corrupt.items():
                    shards.parts[i].corrupt[rows.start + index] = skipped
                for acts, labels in shard.batches:
                    seen.add(acts, labels)
                    yield acts.to(probe.home), None if labels is None else labels.to(probe.home)
                advance(len(rows))
        name = getattr(data, "name", None) or description
        if line := skipped_in_words(name, getattr(data, "skipped", ())):
            warn_user(line, LeftOutWarning)
        if not seen.samples:
            raise DataError(f"{name}: there are no samples")

    def _shards(self, probe: AnyProbe, shards: Shards) -> Iterator[Passed]:
        if self.pool is None:
            self.sent = [put(self.ray, probe)]
            self.pool = self.stack.enter_context(
                Pool(
                    self.ray,
                    Runner,
                    [self.threads, self.device],
                    workers=self.workers,
                    threads=self.threads,
                    gpus=self.gpus,
                )
            )
        data = put(self.ray, shards.without_images())
        tasks = ((self.sent, data, shard) for shard in shards.to_send())
        yield from self.pool.ordered("run", tasks)
