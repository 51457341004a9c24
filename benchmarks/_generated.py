"""Features of classes that are apart, their linear head, and what a call of them costs."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import offmap

Seconds = tuple[float, float]  # on the wall, and of the processor
SPREAD = 0.5  # deviation of a feature within its class, of that between the classes


@dataclass(frozen=True)
class World:
    """Class means, and the head that tells them apart.

    Args:
        means: ``(c, d)``.
        head: its rows are the means about their centre, at a size that makes it sure.
    """

    means: Tensor
    head: offmap.Head

    @classmethod
    def of(cls, features: int, classes: int) -> World:
        """The same one for the same numbers."""
        generator = torch.Generator().manual_seed(classes)
        means = torch.randn(classes, features, generator=generator).relu()
        centred = means - means.mean(0)
        weight = 12 * centred / centred.square().sum(1, keepdim=True)
        return cls(means, offmap.Head(weight, -(weight * means).sum(1) / 2))

    def draw(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """Features as of a ReLU, and labels, each class among them where there are enough."""
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(n) % len(self.means)
        labels = labels[torch.randperm(n, generator=generator)]
        noise = torch.randn(n, self.means.shape[1], generator=generator)
        return (self.means[labels] + SPREAD * noise).relu_(), labels

    def stream(self, n: int, batch: int = 1000) -> Iterator[tuple[offmap.Activations, Tensor]]:
        """Batches of activations and labels, of which one is held at a time."""
        for seed, start in enumerate(range(0, n, batch)):
            features, labels = self.draw(min(batch, n - start), 1 + seed)
            yield offmap.Activations(self.head(features), features), labels


def both_clocks(run: Callable[[], object]) -> Seconds:
    """Seconds on the wall and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def extra_memory(run: Callable[[], object]) -> int:
    """Bytes by which a process grows at most that runs this; a fork, so that all begin alike.

    Pages of libraries that the call is the first to touch are no memory that it takes, and are
    not counted where the system tells them (Linux). It runs in one thread: a pool of them does
    not survive a fork.

    Raises:
        MemoryError: the process ended before it told.
    """
    _trim()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        start, files = peak(), _of_files()
        try:
            run()
            os.write(write, str(peak() - start - (_of_files() - files)).encode())
        finally:
            os._exit(0)
    os.close(write)
    told = os.read(read, 64)
    os.close(read)
    os.waitpid(child, 0)
    if not told:
        raise MemoryError("the process that was measured ended before it told its peak")
    return int(told)


def peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _of_files() -> int:
    """Bytes of this process that are pages of files; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssFile"))


def _trim() -> None:
    """Hand back what is free, which the fork would fill without growing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
