"""Records of neural collapse over a training, and of how well detectors do meanwhile."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from offmap.collapse import Collapse, collapse
from offmap.errors import StoreError
from offmap.evaluation import evaluate
from offmap.results import Results
from offmap.training import write_history

COLLAPSE, OOD = "collapse.csv", "ood.csv"
_OF_A_ROW = ("auroc", "fpr_id_kept", "fpr_ood_caught")


@dataclass(frozen=True)
class Records:
    """What was recorded, by epoch.

    Args:
        collapse: a row an epoch: ``epoch``, the figures of :class:`~offmap.collapse.Collapse`, and
            ``test_accuracy`` where it was measured.
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
    def epochs(self) -> list[int]:
        """Those with a record."""
        return [int(row["epoch"]) for row in self.collapse]

    @property
    def detectors(self) -> list[str]:
        """Those that were evaluated, in their order."""
        return list(dict.fromkeys(row["detector"] for row in self.ood))

    def of(self, name: str) -> NDArray[np.float64]:
        """A column of the figures of collapse; ``nc5`` is the mean over the OOD sets."""
        columns = [name] if name != "nc5" else _starting("nc5_", self.collapse[0])
        values = np.array([[row[c] for c in columns] for row in self.collapse], dtype=np.float64)
        mean: NDArray[np.float64] = values.mean(1)
        return mean

    def auroc(self, detector: str) -> NDArray[np.float64]:
        """The mean over the OOD sets, by epoch."""
        values: dict[int, list[float]] = {epoch: [] for epoch in self.epochs}
        for row in self.ood:
            if row["detector"] == detector:
                values[int(row["epoch"])].append(row["auroc"])
        return np.array([np.mean(each) for each in values.values()])


def _starting(beginning: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(beginning)]


def measure(
    network: nn.Module,
    train: Any,
    *,
    id_test: Any = None,
    ood: Mapping[str, Any] | None = None,
    detectors: Sequence[Any] = (),
    cache: str | Path | None = None,
    **options: Any,
) -> tuple[Collapse, Results | None]:
    """Neural collapse, and detectors beside it, from one pass of the network over each image.

    Args:
        network: a classifier.
        train: its training data, un-augmented.
        id_test: ID data to evaluate detectors on; without it, or without OOD sets, there is no
            evaluation.
        ood: OOD sets by name, or by group and name.
        detectors: as for :func:`offmap.evaluate`; those that cannot be fitted are left out.
        cache: folder for activations; by default a temporary one. Data that are no sets of
            ``offmap.data`` are not cached, and pass the network twice.
        **options: of :func:`offmap.evaluate`, and :class:`offmap.Probe`.

    Raises:
        OffmapError: as :func:`offmap.collapse.collapse` and :func:`offmap.evaluate`.
    """
    with _folder(cache) as folder:
        found = collapse(network, train, ood=ood, cache=folder, **options)
        if id_test is None or not ood:
            return found, None
        return found, evaluate(
            network,
            train=train,
            id_test=id_test,
            ood=ood,
            detectors=detectors,
            spare=True,
            cache=folder,
            **options,
        )


def add(folder: Path, epoch: int, found: Collapse, results: Results | None) -> None:
    """Write the record of an epoch behind those of earlier ones, in the place of its own."""
    row: dict[str, Any] = {"epoch": epoch, **found.figures()}
    if results is not None:
        right, samples = results.accuracy or (float("nan"), 1)
        row["test_accuracy"] = right / samples
        put(folder / OOD, epoch, ood_rows(epoch, results))
    put(folder / COLLAPSE, epoch, [row])  # the last to be written: the epoch is whole


def ood_rows(epoch: int, results: Results) -> list[dict[str, Any]]:
    """The lines of an evaluation."""
    return [
        {"epoch": epoch, "detector": row.detector, "set": row.set}
        | {name: getattr(row, name) for name in _OF_A_ROW}
        for row in results.rows
    ]


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


@contextmanager
def _folder(given: str | Path | None) -> Iterator[str | Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="offmap-") as folder:
        yield folder
