"""Data that may be split over processes, and what one pass collects from each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from offmap.activations import Activations, Sample
from offmap.detectors._needs import Needs, Source
from offmap.detectors._plan import Path, Step
from offmap.stats import Statistic

if TYPE_CHECKING:
    from offmap.detectors._detector import Detector
    from offmap.detectors._engine import Fitting

Sums = dict[tuple[int, Step], Statistic]


@dataclass(frozen=True)
class Task:
    """The statistics to collect in one pass over one source of data.

    Args:
        source: the data.
        number: of the pass, from 0.
        roots: detectors by number, with the buffers learned so far.
        steps: what each of them learns in this pass.
        keep: what later passes read: which activations, and whether other layers; ``None`` if no
            pass follows.
    """

    source: Source
    number: int
    roots: Mapping[int, Detector]
    steps: Mapping[int, Sequence[Step]]
    keep: tuple[Needs, bool] | None


@dataclass
class Collected:
    """The statistics of one pass over a part of the data; those of several parts add up.

    Args:
        sums: statistics, by detector and step.
        samples: their number.
        left_out: parts of detectors that cannot be used on these data, with the reason.
    """

    sums: Sums = field(default_factory=dict)
    samples: int = 0
    left_out: dict[tuple[int, Path], str] = field(default_factory=dict)

    def add(self, other: Collected) -> None:
        """Add the statistics of another part of the data."""
        for key in list(other.sums):
            part = other.sums.pop(key)  # popped, so that it is in memory once
            self.sums[key] = self.sums[key] + part if key in self.sums else part
        self.samples += other.samples
        self.left_out |= other.left_out | self.left_out


class Spread(ABC):
    """Data in one place or many, over which several passes can be made.

    Attributes:
        first: activations, or a sample, of the first batch.
    """

    first: Activations | Sample

    @abstractmethod
    def collect(self, task: Task, fitting: Fitting) -> Iterator[Collected]:
        """The statistics of each part of the data, in a fixed order."""


def left_out_of(root: Detector, path: Path = ()) -> dict[Path, str]:
    """The parts of a tree that were left out, with the reason."""
    reasons: dict[Path, str] = {}
    for i, part in enumerate(root.all_parts()):
        if part.absent:
            reasons[*path, i] = str(getattr(part, "reason", ""))
        else:
            reasons |= left_out_of(part, (*path, i))
    return reasons
