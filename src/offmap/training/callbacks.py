"""Callbacks that measure a network while it trains: curves, detectors, neural collapse.

Give them to ``offmap.training.train(after_epoch=[...])``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from offmap import plots
from offmap._utils.arguments import whole
from offmap.evaluation import evaluate
from offmap.evaluation.measure import measure
from offmap.training.history import Epoch
from offmap.training.records import write_measurement, write_ood

Callback = Callable[[Epoch], None]
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
) -> Callback:
    """A callback that evaluates detectors every so many epochs, and after the last.

    It adds a line for each detector and set to ``ood.csv``: epoch, detector, set, AUROC and both
    readings of FPR@95TPR. A run that is resumed repeats no line.

    Args:
        id_test: ID data, as for :func:`offmap.evaluate`.
        ood: OOD sets by name.
        every: epochs between two evaluations.
        detectors: those that need no training data, or give ``train=``.
        **options: of :func:`offmap.evaluate`.

    Raises:
        ArgumentError: ``every`` is below 1.
    """
    whole("every", every)

    def callback(epoch: Epoch) -> None:
        if epoch.number % every and epoch.number != epoch.of:
            return
        results = evaluate(
            epoch.network, id_test=id_test, ood=ood, detectors=list(detectors), **options
        )
        write_ood(epoch.folder, epoch.number, results)

    return callback


def watch_collapse(
    train: Any,
    *,
    id_test: Any = None,
    ood: Mapping[str, Any] | None = None,
    detectors: Sequence[Any] = (),
    every: int,
    **options: Any,
) -> Callback:
    """A callback that measures neural collapse every so many epochs, after the first and the last.

    It adds a line to ``collapse.csv``: epoch, accuracy on the un-augmented training images, NC1 to
    NC4, NC5 for each OOD set, and the test accuracy; and, where there is something to evaluate on,
    lines to ``ood.csv`` as :func:`watch_ood` does. A run that is resumed repeats no line.

    Args:
        train: the training data.
        id_test: ID data to evaluate detectors on.
        ood: OOD sets by name, or by group and name.
        detectors: as for :func:`offmap.evaluate`.
        every: epochs between two records.
        **options: of :func:`offmap.evaluation.measure.measure`.

    Raises:
        ArgumentError: ``every`` is below 1.
    """
    whole("every", every)

    def callback(epoch: Epoch) -> None:
        if epoch.number % every and epoch.number not in (1, epoch.of):
            return
        measurement = measure(
            epoch.network, train, id_test=id_test, ood=ood, detectors=detectors, **options
        )
        write_measurement(epoch.folder, epoch.number, measurement)

    return callback
