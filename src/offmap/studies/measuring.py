"""Neural collapse of a network and how well detectors do on it, from one pass over each image."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from offmap.activations import Batch
from offmap.evaluation import Results, evaluate
from offmap.evaluation.collapse import Collapse, collapse
from offmap.forward import forward
from offmap.studies.records import COLLAPSE, OOD, put

_OF_A_ROW = ("auroc", "fpr_id_kept", "fpr_ood_caught")


@dataclass(frozen=True)
class Measured:
    """What was measured of one network.

    Args:
        collapse: of its training data and the OOD sets.
        test_accuracy: on ID data, where there is some.
        results: of detectors on the OOD sets, where there are both.
    """

    collapse: Collapse
    test_accuracy: float | None = None
    results: Results | None = None


def measure(
    network: nn.Module,
    train: Any,
    *,
    id_test: Any = None,
    ood: Mapping[str, Any] | None = None,
    detectors: Sequence[Any] = (),
    cache: str | Path | None = None,
    **options: Any,
) -> Measured:
    """Neural collapse, and detectors beside it, from one pass of the network over each image.

    Args:
        network: a classifier.
        train: its training data, un-augmented.
        id_test: ID data to evaluate on; without OOD sets, its accuracy is all that there is.
        ood: OOD sets by name, or by group and name.
        detectors: as for :func:`offmap.evaluate`; those that cannot be fitted are left out.
        cache: folder for activations; by default a temporary one. Data that are no sets of
            ``offmap.data`` are not cached, and pass the network twice.
        **options: of :func:`offmap.evaluate`, and :class:`offmap.Probe`.

    Raises:
        OffmapError: as :func:`offmap.evaluation.collapse.collapse` and :func:`offmap.evaluate`.
    """
    with _folder(cache) as folder:
        found = collapse(network, train, ood=ood, cache=folder, **options)
        if id_test is None:
            return Measured(found)
        if not ood:
            return Measured(found, _accuracy(forward(network, id_test, cache=folder, **options)))
        results = evaluate(
            network,
            train=train,
            id_test=id_test,
            ood=ood,
            detectors=detectors,
            spare=True,
            cache=folder,
            **options,
        )
        right, samples = results.accuracy or (0, 0)
        return Measured(found, right / samples if samples else None, results)


def _accuracy(batches: Iterable[Batch]) -> float | None:
    right = [(acts.answers == labels).double() for acts, labels in batches if labels is not None]
    return float(torch.cat(right).mean()) if right else None


def add(folder: Path, epoch: int, of: Measured) -> None:
    """Write the record of an epoch behind those of earlier ones, in the place of its own."""
    row: dict[str, Any] = {"epoch": epoch, **of.collapse.figures()}
    if of.test_accuracy is not None:
        row["test_accuracy"] = of.test_accuracy
    if of.results is not None:
        put(folder / OOD, epoch, ood_rows(epoch, of.results))
    put(folder / COLLAPSE, epoch, [row])  # the last to be written: the epoch is whole


def ood_rows(epoch: int, results: Results) -> list[dict[str, Any]]:
    """The lines of an evaluation."""
    return [
        {"epoch": epoch, "detector": row.detector, "set": row.set}
        | {name: getattr(row, name) for name in _OF_A_ROW}
        for row in results.rows
    ]


@contextmanager
def _folder(given: str | Path | None) -> Iterator[str | Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="offmap-") as folder:
        yield folder
