"""Tables of neural collapse over a training, and of how well detectors do meanwhile."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from offmap._utils.table import render
from offmap.errors import StoreError
from offmap.training import write_history

COLLAPSE, OOD = "collapse.csv", "ood.csv"
FIGURES = ("nc1", "nc2_norms", "nc2_angles", "nc2_simplex", "nc3", "nc4")
_SHARES = ("accuracy", "test_accuracy", "nc4")
_TITLES = {"accuracy": "train, %", "test_accuracy": "test, %", "nc4": "NC4, %"}


@dataclass(frozen=True)
class Records:
    """What was recorded, by epoch.

    Args:
        collapse: a row an epoch: ``epoch``, the figures of
            :class:`~offmap.evaluation.collapse.Collapse`, and ``test_accuracy`` where measured.
        ood: a row for each epoch, detector and set: AUROC and both readings of FPR@95TPR.
    """

    collapse: Sequence[Mapping[str, float]]
    ood: Sequence[Mapping[str, Any]]

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """The records in a folder; none, if there is no file.

        Raises:
            StoreError: a file that is no table of records.
        """
        folder = Path(folder)
        return cls(_read(folder / COLLAPSE), _read(folder / OOD))

    @property
    def sets(self) -> list[str]:
        """The OOD sets that NC5 was measured on."""
        names = self.collapse[0] if self.collapse else ()
        return [name.removeprefix("nc5_") for name in names if name.startswith("nc5_")]

    @property
    def epochs(self) -> list[int]:
        """Those with a record."""
        return [int(row["epoch"]) for row in self.collapse]

    @property
    def detectors(self) -> list[str]:
        """Those that were evaluated, in their order."""
        return list(dict.fromkeys(row["detector"] for row in self.ood))

    def table(self) -> str:
        """A line for each epoch, for the terminal."""
        known = self.collapse[0]
        columns = [name for name in ("accuracy", "test_accuracy", *FIGURES) if name in known]
        columns += ["nc5"] if self.sets else []
        values = np.stack([scale(name) * self.of(name) for name in columns], axis=1)
        cells = {str(e): row.tolist() for e, row in zip(self.epochs, values, strict=True)}
        heads = [title(name) for name in columns]
        table = render(cells, heads, star=False, corner="epoch", digits=4)
        return (
            "neural collapse on the un-augmented training images; NC5 is the mean of the OOD sets"
            f"\n\n{table}"
        )

    def of(self, name: str) -> NDArray[np.float64]:
        """A column of the figures of collapse; ``nc5`` is the mean over the OOD sets."""
        columns = [name] if name != "nc5" else [f"nc5_{each}" for each in self.sets]
        values = np.array([[row[c] for c in columns] for row in self.collapse], dtype=np.float64)
        mean: NDArray[np.float64] = values.mean(1)
        return mean

    def auroc(self, detector: str) -> NDArray[np.float64]:
        """The mean over the OOD sets, by epoch; NaN where the detector could not be fitted."""
        values: dict[int, list[float]] = {epoch: [] for epoch in self.epochs}
        for row in self.ood:
            if row["detector"] == detector:
                values[int(row["epoch"])].append(row["auroc"])
        return np.array([np.mean(each or [np.nan]) for each in values.values()])


def scale(name: str) -> float:
    """What a figure is multiplied by where it is shown: shares are in percent."""
    return 100.0 if name in _SHARES else 1.0


def title(name: str) -> str:
    """What a figure is called where it is shown."""
    return _TITLES.get(name, name.replace("nc", "NC", 1).replace("_", " ", 1))


def put(path: Path, epoch: int, rows: list[dict[str, Any]]) -> None:
    """Write lines behind those of earlier epochs; an epoch that is repeated stands there once."""
    if kept := [row for row in _read(path) if row["epoch"] < epoch] + rows:
        write_history(path, kept)


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        with path.open(newline="") as file:
            return [
                {name: _value(name, text) for name, text in row.items()}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path} is no table of records: {error}") from error


def _value(name: str, text: str) -> Any:
    if name in ("detector", "set"):
        return text
    return int(text) if name in ("epoch", "n") else float(text or "nan")
