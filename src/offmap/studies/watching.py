"""What can be looked at while a network trains: curves, and OOD scores every few epochs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from offmap import plots
from offmap.collapse import collapse
from offmap.evaluation import evaluate
from offmap.training import Epoch, write_history

Watcher = Callable[[Epoch], None]
OOD, COLLAPSE = "ood.csv", "collapse.csv"
_QUICK = 2.0  # seconds


def draw_curves(epoch: Epoch) -> None:
    """Loss and accuracy of all epochs so far, as ``curves.png`` in the folder of the run.

    Epochs that take less time than the drawing are drawn together, after the last.
    """
    if epoch.number < epoch.of and epoch.history[-1]["seconds"] < _QUICK:
        return
    plots.save(plots.training_curves(epoch.history), epoch.folder / "curves.png")


def watch_ood(
    id_test: Any,
    ood: Mapping[str, Any],
    *,
    every: int,
    detectors: Sequence[Any] = ("msp", "maxlogit", "energy"),
    **options: Any,
) -> Watcher:
    """A watcher that evaluates detectors every so many epochs, and after the last.

    It adds a line for each detector and set to ``ood.csv``: epoch, detector, set, AUROC and both
    readings of FPR@95TPR. A run that is resumed repeats no line.

    Args:
        id_test: ID data, as for :func:`offmap.evaluate`.
        ood: OOD sets by name.
        every: epochs between two evaluations.
        detectors: those that need no training data, or give ``train=``.
        **options: of :func:`offmap.evaluate`.
    """

    def watcher(epoch: Epoch) -> None:
        if epoch.number % every and epoch.number != epoch.of:
            return
        found = evaluate(
            epoch.network, id_test=id_test, ood=ood, detectors=list(detectors), **options
        )
        rows = [
            {
                "epoch": epoch.number,
                "detector": row.detector,
                "set": row.set,
                "auroc": row.auroc,
                "fpr_id_kept": row.fpr_id_kept,
                "fpr_ood_caught": row.fpr_ood_caught,
            }
            for row in found.rows
        ]
        _add(epoch.folder / OOD, epoch.number, rows)

    return watcher


def watch_collapse(
    train: Any, *, ood: Mapping[str, Any] | None = None, every: int, **options: Any
) -> Watcher:
    """A watcher that measures neural collapse every so many epochs, and after the last.

    It adds a line to ``collapse.csv``: epoch, accuracy on the un-augmented training images, NC1 to
    NC4, and NC5 for each OOD set. A run that is resumed repeats no line.

    Args:
        train: the training data.
        ood: OOD sets by name, for NC5.
        every: epochs between two records.
        **options: of :func:`offmap.collapse.collapse`.
    """

    def watcher(epoch: Epoch) -> None:
        if epoch.number % every and epoch.number != epoch.of:
            return
        found = asdict(collapse(epoch.network, train, ood=ood, **options))
        nc5 = {f"nc5_{name}": value for name, value in found.pop("nc5").items()}
        _add(epoch.folder / COLLAPSE, epoch.number, [{"epoch": epoch.number, **found, **nc5}])

    return watcher


def _add(path: Path, number: int, rows: list[dict[str, Any]]) -> None:
    """Write the rows of an epoch behind those of earlier ones."""
    write_history(path, [*_earlier(path, number), *rows])


def _earlier(path: Path, number: int) -> list[dict[str, Any]]:
    """The lines of epochs before this one."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["epoch"]) < number]
