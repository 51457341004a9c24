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
    """A finished epoch, as callbacks get it.

    Args:
        number: from 1.
        of: epochs of the run, in all.
        history: figures of this and all earlier epochs.
        network: with the weights that would be saved now.
        folder: of the run.
    """

    number: int
    of: int
    history: list[dict[str, float]]
    network: nn.Module
    folder: Path


def write_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write a table of one line per row, anew each time, so that no epoch stands there twice."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        # The columns of all rows: later ones may have others than the first.
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in history for name in row)))
        writer.writeheader()
        writer.writerows(history)
