"""The settings that go to workers, and the results that come back."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from offmap.data import Skipped
from offmap.detectors import Collected
from offmap.forward import Seen
from offmap.scale._folder import folder_of


@dataclass(frozen=True)
class Settings:
    """Settings of a run, the same for all workers.

    Args:
        run: its name.
        threads: of torch and of decoding.
        device: where to run.
        share: of calibration data to learn on; ``None`` to use all data for one purpose.
    """

    run: str
    threads: int
    device: str | None
    share: float | None

    @property
    def folder(self) -> Path:
        """The folder of files for later passes, on each machine."""
        return folder_of(self.run)


@dataclass
class Part:
    """The results of a shard.

    Args:
        collected: statistics, of a task that collects.
        seen: the samples that were read.
        skipped: images that cannot be read.
        scores: ``(n, k)``, of a task that scores, with ``predictions`` and ``keys``.
        predictions: class indices.
        keys: of the samples.
        classes: of the network.
    """

    collected: Collected = field(default_factory=Collected)
    seen: Seen = field(default_factory=lambda: Seen(hashing=False))
    skipped: tuple[Skipped, ...] = ()
    scores: Tensor | None = None
    predictions: Tensor | None = None
    keys: list[str] = field(default_factory=list)
    classes: int = 0


def on_device(value: Any, device: torch.device) -> Any:
    """A statistic with every tensor on a device: dataclasses of tensors, at any depth."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(on_device(each, device) for each in value)
    if isinstance(value, dict):
        return {key: on_device(each, device) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {each.name: on_device(getattr(value, each.name), device) for each in fields(value)}
        return type(value)(**parts)
    return value
