"""What goes to workers and comes back."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from offmap.data import Skipped
from offmap.detectors import Collected
from offmap.forward import Seen


@dataclass(frozen=True)
class Settings:
    """Of a run, the same for all workers.

    Args:
        run: its name.
        threads: of torch and of decoding.
        device: where to run.
        share: of calibration data to learn on; ``None`` where all of it is learned from.
    """

    run: str
    threads: int
    device: str | None
    share: float | None

    @property
    def folder(self) -> Path:
        """For what later passes read, on each machine."""
        return Path(tempfile.gettempdir()) / f"offmap-{self.run}"


@dataclass
class Part:
    """What a shard gave.

    Args:
        collected: statistics, where some were asked for.
        seen: what went by.
        skipped: images that cannot be read.
        scores: ``(n, k)``, where they were asked for, with ``predictions`` and ``keys``.
    """

    collected: Collected = field(default_factory=Collected)
    seen: Seen = field(default_factory=lambda: Seen(hashing=False))
    skipped: tuple[Skipped, ...] = ()
    scores: Tensor | None = None
    predictions: Tensor | None = None
    keys: list[str] = field(default_factory=list)
    classes: int = 0
