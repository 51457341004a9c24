"""Results in the order of their tasks, in bounded memory, with a stand-in for Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from offmap.errors import DataError, OffmapError
from offmap.scale._pool import Pool
from offmap.scale._session import versions


class TaskError(Exception):
    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class ActorError(Exception):
    pass


class Task:
    """Is computed when it is waited for, the last of all first."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self.compute, self.done = compute, False


class Ray:
    """Runs what is asked in this process, and in the order that is least welcome."""

    exceptions = SimpleNamespace(RayTaskError=TaskError, RayActorError=ActorError)

    def __init__(self) -> None:
        self.killed: list[Any] = []
        self.most = 0

    def remote(self, **options: Any) -> Callable[[type], Any]:
        self.options = options

        def made(kind: type) -> Any:
            return SimpleNamespace(remote=lambda *arguments: Handle(kind(*arguments)))

        return made

    def wait(
        self, tasks: list[Task], *, num_returns: int, timeout: float | None = None
    ) -> tuple[list[Task], list[Task]]:
        self.most = max(self.most, len(tasks))
        return tasks[-num_returns:], tasks[:-num_returns]

    def get(self, task: Task) -> Any:
        return task.compute()

    def kill(self, actor: Any) -> None:
        self.killed.append(actor)


class Handle:
    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.actor, name)
        made = SimpleNamespace(remote=lambda *arguments: Task(lambda: method(*arguments)))
        made.options = lambda **options: made
        return made


class Squares:
    made = 0

    def __init__(self) -> None:
        self.number = Squares.made = Squares.made + 1

    def versions(self) -> dict[str, str]:
        return versions()

    def close(self) -> None:
        pass

    def square(self, x: int) -> int:
        return x * x

    def who(self, x: int) -> int:
        return self.number

    def fail(self, x: int) -> int:
        raise TaskError(DataError("no images"))

    def die(self, x: int) -> int:
        raise ActorError("The actor died\nand more")


def pool(ray: Ray, workers: int = 3) -> Pool:
    return Pool(ray, Squares, [], workers=workers, threads=2, gpus=0)


def test_results_come_in_order_whatever_is_done_first() -> None:
    ray = Ray()
    with pool(ray) as workers:
        assert list(workers.ordered("square", ((x,) for x in range(50)))) == [
            x * x for x in range(50)
        ]
    assert ray.most <= 2 * 3
    assert len(ray.killed) == 3
    assert ray.options == {
        **{"num_cpus": 2, "num_gpus": 0},
        **{"max_restarts": -1, "max_task_retries": 3},
    }


def test_no_more_is_read_than_a_few_results_ahead() -> None:
    read: list[int] = []

    def tasks() -> Iterator[tuple[int]]:
        for x in range(1000):
            read.append(x)
            yield (x,)

    with pool(Ray()) as workers:
        results = workers.ordered("square", tasks())
        assert next(results) == 0
        assert len(read) <= 1 + 4 * 3


def test_later_passes_go_where_the_first_has_been() -> None:
    with pool(Ray()) as workers:
        homes: dict[int, int] = {}
        tasks = [(x,) for x in range(20)]
        first = list(workers.ordered("who", tasks, homes))
        assert len(set(first)) == 3
        assert list(workers.ordered("who", tasks, homes)) == first


def test_errors_are_those_that_were_raised_and_workers_end() -> None:
    ray = Ray()
    with pytest.raises(DataError, match=r"^no images$"), pool(ray) as workers:
        list(workers.ordered("fail", [(1,)]))
    assert len(ray.killed) == 3
    words = r"a worker ended 4 times on one task \(The actor died\): it mostly lacks memory"
    with pytest.raises(OffmapError, match=words), pool(ray) as workers:
        list(workers.ordered("die", [(1,)]))
