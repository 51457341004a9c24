"""Study C in pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from offmap import plots
from offmap.evaluation import Results
from offmap.forward import probe_of
from offmap.studies._candidates import Candidate
from offmap.studies._data import Data

_SHOWN = 8
_DRAWN = ("totalentropy", "mutualinformation")


def draw(
    results: Mapping[str, Results], candidates: Mapping[str, Candidate], found: Data, out: Path
) -> None:
    """Histograms of entropy and mutual information, and what the members disagree on most."""
    sets = {name: images for group in found.ood.values() for name, images in group.items()}
    for name in ("plain", "disagreement"):
        for detector in _DRAWN:
            figure = plots.histograms(results[name], detector)
            plots.save(figure, out / name / f"histograms-{detector}.png")
        plots.save(plots.roc_curves(results[name]), out / name / "roc.png")
        _most_disputed(results[name], candidates[name], {"id": found.test} | sets, out / name)


def _most_disputed(results: Results, of: Candidate, sets: Mapping[str, Any], folder: Path) -> None:
    images, titles = [], []
    with probe_of(of.network, normalization=of.normalization) as probe:
        for name, each in sets.items():
            scores = results.scores["mutualinformation"][name]
            rows = np.argsort(-scores, kind="stable")[:_SHOWN]
            chosen = next(each.subset(rows).batches(_SHOWN))[0]
            answers = [m.answers.tolist() for m in probe(chosen).members]
            images += list(chosen)
            titles += [
                f"{name} {scores[row]:.2f}\n{' '.join(str(a[i]) for a in answers)}"
                for i, row in enumerate(rows)
            ]
    heading = "highest mutual information of each set; below, the members' answers"
    plots.save(plots.image_grid(images, titles, heading=heading), folder / "most_disputed.png")
