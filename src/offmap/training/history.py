"""The epochs of a run, as figures."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from offmap._utils.files import atomic


@dataclass(frozen=True)
class Epoch:
    """A finished epoch, for whoever wants to watch.

    Args:
        number: from 1.
        of: epochs of the whole run.
        history: figures of this and all earlier epochs.
        network: as it would be kept now.
        folder: of the run.
    """

    number: int
    of: int
    history: list[dict[str, float]]
    network: nn.Module
    folder: Path


def write_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """One line an epoch. Written whole each time, so that no epoch stands there twice."""
    with atomic(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
