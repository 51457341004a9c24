"""Study D in figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from offmap import plots
from offmap.detectors import NECO, fit
from offmap.evaluation.collapse import Collapse, cosines
from offmap.forward import forward
from offmap.studies._study import Data
from offmap.training.trained import Trained

_SHOWN = 300  # samples of each set


def draw_cosines(collapses: Mapping[str, Collapse], out: Path) -> None:
    """Cosines of the class means, by network."""
    matrices = {name: cosines(of.means).cpu().numpy() for name, of in collapses.items()}
    plots.save(plots.cosine_matrices(matrices), out / "cosines.png")


def draw_plane(
    trained: Trained, sets: Data, collapse: Collapse, path: Path, name: str, options: Any
) -> None:
    """ID and OOD features on the two leading principal directions of the training features."""
    neco = NECO(2, scale=False)
    fit([neco], train=forward(trained.network, sets.train, **options))
    directions = neco.directions_.cpu()
    samples = {"id": sets.test} | {n: s for group in sets.ood.values() for n, s in group.items()}
    points = {}
    for set, images in samples.items():
        parts: list[Any] = []
        for acts, _ in forward(trained.network, images, **options):
            parts.append((acts.features.cpu().double() @ directions).numpy())
            if sum(map(len, parts)) >= _SHOWN:
                break
        points[set] = np.concatenate(parts)[:_SHOWN]
    means = (collapse.means.cpu() @ directions).numpy()
    heading = f"{name}: {trained.source}"
    plots.save(plots.plane(points, means, heading=heading), path)
