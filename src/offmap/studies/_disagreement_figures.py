"""Study C in figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from offmap import plots
from offmap.evaluation import Results
from offmap.forward import probe_of
from offmap.studies._study import Data
from offmap.training.trained import Trained

_SHOWN = 8  # images of each set
_HISTOGRAMS = ("totalentropy", "mutualinformation")


def draw(
    results: Mapping[str, Results], networks: Mapping[str, Trained], sets: Data, out: Path
) -> None:
    """Histograms of entropy and mutual information, ROC curves, and the most disputed images."""
    images = {"id": sets.test} | {n: s for group in sets.ood.values() for n, s in group.items()}
    for name in ("plain", "disagreement"):
        for detector in _HISTOGRAMS:
            figure = plots.histograms(results[name], detector)
            plots.save(figure, out / name / f"histograms-{detector}.png")
        plots.save(plots.roc_curves(results[name]), out / name / "roc.png")
        _draw_disputed(results[name], networks[name], images, out / name / "most_disputed.png")


def _draw_disputed(results: Results, trained: Trained, sets: Mapping[str, Any], path: Path) -> None:
    """The images of highest mutual information, under the members' predictions."""
    images, titles = [], []
    with probe_of(trained.network, normalization=trained.normalization) as probe:
        for name, data in sets.items():
            scores = results.scores["mutualinformation"][name]
            rows = np.argsort(-scores, kind="stable")[:_SHOWN]
            batch, _ = next(data.subset(rows).batches(_SHOWN))
            by_member = [member.predictions.tolist() for member in probe(batch).members]
            images += list(batch)
            titles += [
                f"{name} {scores[row]:.2f}\n{' '.join(map(str, predictions))}"
                for row, *predictions in zip(rows, *by_member, strict=True)
            ]
    heading = "highest mutual information of each set; below, the members' predictions"
    plots.save(plots.image_grid(images, titles, heading=heading), path)
