"""Neural collapse over a training, and how well detectors do meanwhile, as tables and figures."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from offmap import plots
from offmap._utils.files import reason_of
from offmap._utils.table import render
from offmap.errors import StoreError
from offmap.evaluation import Results
from offmap.evaluation.measure import Measurement
from offmap.training.history import write_history

COLLAPSE, OOD = "collapse.csv", "ood.csv"
FIGURES = ("nc1", "nc2_norms", "nc2_angles", "nc2_simplex", "nc3", "nc4")
_EPOCH, _EVALUATION = ("epoch",), ("epoch", "detector", "set")  # what tells their rows apart
_METRICS = ("auroc", "fpr_id_kept", "fpr_ood_caught")
_SHARES = ("accuracy", "test_accuracy", "nc4")
_TITLES = {"accuracy": "train, %", "test_accuracy": "test, %", "nc4": "NC4, %"}
# Types of columns; all others are floats, and empty where a figure is not known.
_TYPES: dict[str, Callable[[str], Any]] = {"epoch": int, "n": int, "detector": str, "set": str}
# By panel of the figure: its lines and their names.
_PANELS = {
    "accuracy": {"accuracy": "train, un-augmented", "test_accuracy": "test"},
    "NC1": {"nc1": "within to between classes"},
    "NC2": {
        "nc2_norms": "norms",
        "nc2_angles": "cosines",
        "nc2_simplex": "distance from a simplex",
    },
    "NC3": {"nc3": "head and means"},
    "NC4": {"nc4": "nearest mean disagrees"},
}


@dataclass(frozen=True)
class Records:
    """Measurements by epoch.

    Args:
        collapse: a row for each epoch: ``epoch``, the figures of
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
        return cls(_read(Path(folder) / COLLAPSE, _EPOCH), _read(Path(folder) / OOD, _EVALUATION))

    @property
    def sets(self) -> list[str]:
        """The OOD sets that NC5 was measured on."""
        columns = self.collapse[0] if self.collapse else ()
        return [name.removeprefix("nc5_") for name in columns if name.startswith("nc5_")]

    @property
    def epochs(self) -> list[int]:
        """The epochs with a record."""
        return [int(row["epoch"]) for row in self.collapse]

    @property
    def detectors(self) -> list[str]:
        """The detectors that were evaluated, in their order."""
        return list(dict.fromkeys(row["detector"] for row in self.ood))

    def of(self, name: str) -> NDArray[np.float64]:
        """A figure of collapse by epoch; ``nc5`` is the mean over the OOD sets."""
        columns = [f"nc5_{s}" for s in self.sets] if name == "nc5" else [name]
        values = np.array([[row[c] for c in columns] for row in self.collapse], dtype=np.float64)
        mean: NDArray[np.float64] = values.reshape(len(self.collapse), len(columns)).mean(1)
        return mean

    def auroc(self, detector: str) -> NDArray[np.float64]:
        """The mean over the OOD sets by epoch; NaN where the detector could not be fitted."""
        values: dict[int, list[float]] = {epoch: [] for epoch in self.epochs}
        for row in self.ood:
            # An epoch that was interrupted has rows here, and no record yet.
            if row["detector"] == detector and row["epoch"] in values:
                values[int(row["epoch"])].append(row["auroc"])
        return np.array([np.mean(aurocs or [np.nan]) for aurocs in values.values()])

    def table(self) -> str:
        """A line for each epoch, for the terminal."""
        if not self.collapse:
            return "neural collapse: no epoch has a record yet"
        figures = ("accuracy", "test_accuracy", *FIGURES)
        columns = [name for name in figures if name in self.collapse[0]]
        columns += ["nc5"] if self.sets else []
        values = np.stack([scale(name) * self.of(name) for name in columns], axis=1)
        cells = {str(e): row.tolist() for e, row in zip(self.epochs, values, strict=True)}
        heads = [title(name) for name in columns]
        table = render(cells, heads, star=False, corner="epoch", digits=4)
        return (
            "neural collapse on the un-augmented training images; NC5 is the mean of the OOD sets"
            f"\n\n{table}"
        )

    def draw(self, out: Path) -> None:
        """NC1 to NC5 and accuracy over the epochs, and AUROC against NC1 and NC5, into a folder.

        Without records nothing is drawn.
        """
        if not self.collapse:
            return
        panels = {
            panel: {
                label: self.of(name) for name, label in lines.items() if name in self.collapse[0]
            }
            for panel, lines in _PANELS.items()
        }
        if self.sets:
            panels["NC5"] = {name: self.of(f"nc5_{name}") for name in self.sets}
        plots.save(plots.epoch_curves(self.epochs, panels, log={"NC1"}), out / "collapse.png")
        if self.ood:
            lines = {name: self.auroc(name) for name in self.detectors}
            values = {"NC1": self.of("nc1"), "NC5, mean of the sets": self.of("nc5")}
            plots.save(plots.against(values, lines, what="mean AUROC"), out / "auroc.png")


def scale(figure: str) -> float:
    """The factor of a figure where it is shown: shares are in percent."""
    return 100.0 if figure in _SHARES else 1.0


def title(figure: str) -> str:
    """The name of a figure where it is shown."""
    return _TITLES.get(figure, figure.replace("nc", "NC", 1).replace("_", " ", 1))


def write_measurement(folder: Path, epoch: int, measurement: Measurement) -> None:
    """Write the record of an epoch, in the place of an earlier one of the same epoch."""
    if measurement.results is not None:
        write_ood(folder, epoch, measurement.results)
    row: dict[str, Any] = {"epoch": epoch, **measurement.collapse.figures()}
    if measurement.test_accuracy is not None:
        row["test_accuracy"] = measurement.test_accuracy
    # Last, because an epoch counts as measured once it is in this file.
    _write(folder / COLLAPSE, [row], _EPOCH)


def write_ood(folder: Path, epoch: int, results: Results) -> None:
    """Write the rows of an evaluation among those of other epochs, and of other evaluations."""
    rows = [
        {"epoch": epoch, "detector": row.detector, "set": row.set}
        | {name: getattr(row, name) for name in _METRICS}
        for row in results.rows
    ]
    _write(folder / OOD, rows, _EVALUATION)


def _write(path: Path, rows: list[dict[str, Any]], key: Sequence[str]) -> None:
    """Write rows in the order of their epochs, in the place of those of the same key."""
    new = [[row[name] for name in key] for row in rows]
    before = [row for row in _read(path, key) if [row[name] for name in key] not in new]
    if table := sorted([*before, *rows], key=lambda row: int(row["epoch"])):
        write_history(path, table)


def _read(path: Path, key: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a table, which has the columns of ``key``; none, if there is no file."""
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                {name: _TYPES.get(name, float)(text or "nan") for name, text in row.items()}
                for row in csv.DictReader(file)
            ]
        if missing := [name for name in key if rows and name not in rows[0]]:
            raise KeyError(missing[0])
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise StoreError(f"{path} is no table of records: {reason_of(error)}") from error
    return rows
