"""Actors that work on numbered tasks, with the results in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from offmap.errors import OffmapError
from offmap.scale._session import check_versions

_AHEAD = 2  # tasks of an actor: one runs and one waits, so that it is never idle
_RESULTS = 4  # for each actor, at most: pending, or waiting for one before them
_PATIENCE = 5.0  # seconds for the workers to tidy up
_TRIES = 3  # of a task whose worker dies


class Pool:
    """So many actors of one kind; Ray starts one that dies again, and repeats its tasks.

    Plain actors, and not Ray Data: the order of tasks and the actor of each are known, so each
    result counts once, later passes go where the first has left its files, and an interrupted run
    continues after the last finished task.

    Args:
        ray: the library, in a session.
        kind: a class with methods ``versions`` and ``close``, made in each worker.
        arguments: of it: few, as Ray keeps them for the case that it starts one again.
        workers: how many.
        threads: processors that each may use.
        gpus: likewise.
    """

    def __init__(
        self,
        ray: Any,
        kind: type,
        arguments: Sequence[Any],
        *,
        workers: int,
        threads: int,
        gpus: int,
    ) -> None:
        self.ray = ray
        actor = ray.remote(
            num_cpus=threads, num_gpus=gpus, max_restarts=-1, max_task_retries=_TRIES
        )(kind)
        self.actors = [actor.remote(*arguments) for _ in range(workers)]

    def __enter__(self) -> Self:
        try:
            tasks = [actor.versions.remote() for actor in self.actors]
            versions = [self.result(task) for task in tasks]
            for distinct in {str(sorted(each.items())): each for each in versions}.values():
                check_versions(distinct)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        """Let the workers tidy up, those that can soon, and end them."""
        ending = [actor.close.options(max_task_retries=0).remote() for actor in self.actors]
        self.ray.wait(ending, num_returns=len(ending), timeout=_PATIENCE)
        for actor in self.actors:
            self.ray.kill(actor)

    def ordered(
        self, method: str, tasks: Iterable[tuple[Any, ...]], homes: dict[int, int] | None = None
    ) -> Iterator[Any]:
        """The results of a method on the arguments of each task, in order and in bounded memory.

        Args:
            method: of the actors.
            tasks: read as results are taken, some ahead.
            homes: by number of a task, the actor that has what it reads; filled by the first run.
        """
        homes = {} if homes is None else homes
        load = [0] * len(self.actors)
        running: dict[Any, int] = {}
        order: deque[Any] = deque()
        numbered = enumerate(tasks)
        upcoming = next(numbered, None)
        while upcoming is not None or order:
            while upcoming is not None and len(order) < _RESULTS * len(self.actors):
                number, arguments = upcoming
                actor = homes.get(number, min(range(len(load)), key=load.__getitem__))
                if load[actor] >= _AHEAD:
                    break
                homes[number] = actor
                load[actor] += 1
                task = getattr(self.actors[actor], method).remote(*arguments)
                running[task] = actor
                order.append(task)
                upcoming = next(numbered, None)
            for task in self.ray.wait(list(running), num_returns=1)[0]:
                load[running.pop(task)] -= 1
            while order and order[0] not in running:
                yield self.result(order.popleft())

    def result(self, task: Any) -> Any:
        """The result of a task; errors of this library are raised as they were.

        Raises:
            OffmapError: its workers died, one after the other.
        """
        errors = self.ray.exceptions
        try:
            return self.ray.get(task)
        except errors.RayTaskError as error:
            if isinstance(error.cause, OffmapError | OSError):
                raise error.cause from None
            raise
        except errors.RayActorError as error:
            raise OffmapError(
                f"a worker ended {1 + _TRIES} times on one task ({str(error).splitlines()[0]}): it "
                "mostly lacks memory; give fewer workers, or a smaller batch_size"
            ) from error
