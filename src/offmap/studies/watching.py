"""What can be looked at while a network trains: curves, and OOD scores every few epochs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from offmap import plots
from offmap.evaluation import evaluate
from offmap.training import Epoch, write_history

Watcher = Callable[[Epoch], None]
OOD = "ood.csv"
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
        path = epoch.folder / OOD
        write_history(path, [*_earlier(path, epoch.number), *rows])

    return watcher


def _earlier(path: Path, number: int) -> list[dict[str, Any]]:
    """The lines of epochs before this one."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["epoch"]) < number]
