"""Neural collapse of a network and how well detectors do on it, from one pass over each image."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from offmap.evaluation.collapse import Collapse, collapse
from offmap.evaluation.results import Results
from offmap.evaluation.run import evaluate
from offmap.forward import forward


@dataclass(frozen=True)
class Measurement:
    """The figures of one network.

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
) -> Measurement:
    """Neural collapse, and detectors beside it, from one pass of the network over each image.

    Args:
        network: a classifier.
        train: its training data, un-augmented.
        id_test: ID data to evaluate on; without OOD sets or detectors, only the accuracy on it is
            measured.
        ood: OOD sets by name, or by group and name.
        detectors: as for :func:`offmap.evaluate`; those that cannot be fitted are left out.
        cache: folder for activations; by default a temporary one. Data that are no sets of
            ``offmap.data`` are not cached, and pass the network twice.
        **options: of :func:`offmap.evaluate`, and :class:`offmap.Probe`.

    Raises:
        OffmapError: as :func:`offmap.evaluation.collapse.collapse` and :func:`offmap.evaluate`.
    """
    temporary = tempfile.TemporaryDirectory(prefix="offmap-") if cache is None else None
    with temporary or nullcontext(cache) as folder:
        options["cache"] = folder
        figures = collapse(network, train, ood=ood, **options)
        if id_test is None:
            return Measurement(figures)
        if not ood or not detectors:
            batches = forward(network, id_test, **options)
            hits = [
                (acts.predictions == labels).double()
                for acts, labels in batches
                if labels is not None
            ]
            return Measurement(figures, float(torch.cat(hits).mean()) if hits else None)
        results = evaluate(
            network,
            train=train,
            id_test=id_test,
            ood=ood,
            detectors=detectors,
            on_error="skip",
            **options,
        )
        right, samples = results.accuracy or (0, 0)
        return Measurement(figures, right / samples if samples else None, results)
