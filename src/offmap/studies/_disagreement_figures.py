"""Study C in figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

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
    data = {"id": sets.test} | {n: s for group in sets.ood.values() for n, s in group.items()}
    for name in ("plain", "disagreement"):
        for detector in _HISTOGRAMS:
            figure = plots.histograms(results[name], detector)
            plots.save(figure, out / name / f"histograms-{detector}.png")
        plots.save(plots.roc_curves(results[name]), out / name / "roc.png")
        images: list[Tensor] = []
        titles: list[str] = []
        normalization = networks[name].normalization
        with probe_of(networks[name].network, normalization=normalization) as probe:
            for set, of_set in data.items():
                scores = results[name].scores["mutualinformation"][set]
                rows = np.argsort(-scores, kind="stable")[:_SHOWN]
                batch, _ = next(of_set.subset(rows).batches(_SHOWN))
                by_member = [member.predictions.tolist() for member in probe(batch).members]
                images += batch
                titles += [
                    f"{set} {scores[row]:.2f}\n{' '.join(map(str, predictions))}"
                    for row, *predictions in zip(rows, *by_member, strict=True)
                ]
        heading = "highest mutual information of each set; below, the members' predictions"
        figure = plots.image_grid(images, titles, heading=heading)
        plots.save(figure, out / name / "most_disputed.png")
