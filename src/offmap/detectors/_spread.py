"""Data that may lie in several places, and what is collected there in one pass."""

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
    """What is to be collected in one pass over one source of data.

    Args:
        source: the data.
        number: of the pass, from 0.
        roots: detectors by number, as far as they have learned.
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
    """What one pass over some of the data gives; that of the whole is the sum.

    Args:
        sums: statistics, by detector and step.
        samples: how many there were.
        left_out: parts of detectors that cannot be used on these data, with the reason.
    """

    sums: Sums = field(default_factory=dict)
    samples: int = 0
    left_out: dict[tuple[int, Path], str] = field(default_factory=dict)

    def add(self, other: Collected) -> None:
        """Take over what another part of the data gave."""
        for key in list(other.sums):
            part = other.sums.pop(key)  # held once: it may be large
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
        """What each part of the data gives, each once, in an order that stays."""


def left_out_of(root: Detector, path: Path = ()) -> dict[Path, str]:
    """The parts of a tree that were left out, with the reason."""
    found: dict[Path, str] = {}
    for i, part in enumerate(root.all_parts()):
        if part.absent:
            found[*path, i] = str(getattr(part, "reason", ""))
        else:
            found |= left_out_of(part, (*path, i))
    return found
