"""Study D in pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from offmap import plots
from offmap.detectors import NECO, fit
from offmap.evaluation.collapse import Collapse, cosines
from offmap.forward import forward
from offmap.studies._data import Data

_SHOWN = 300


def draw_cosines(measured: Mapping[str, Collapse], out: Path) -> None:
    """Cosines of the class means, early and late."""
    matrices = {name: cosines(found.means).cpu().numpy() for name, found in measured.items()}
    plots.save(plots.cosine_matrices(matrices), out / "cosines.png")


def draw_plane(
    network: nn.Module, found: Data, of: Collapse, path: Path, heading: str, options: Any
) -> None:
    """ID and OOD features on the two leading principal directions of the training features."""
    neco = NECO(2, scale=False)
    fit([neco], forward(network, found.train, **options))
    directions = neco.directions_.cpu()
    sets = {"id": found.test} | {n: s for group in found.ood.values() for n, s in group.items()}
    points = {
        name: _first(forward(network, each, **options), directions) for name, each in sets.items()
    }
    means = (of.means.cpu() @ directions).numpy()
    plots.save(plots.plane(points, means, heading=heading), path)


def _first(batches: Any, directions: torch.Tensor) -> Any:
    """The first samples of a set on the directions."""
    parts: list[Any] = []
    for acts, _ in batches:
        parts.append((acts.features.cpu().double() @ directions).numpy())
        if sum(map(len, parts)) >= _SHOWN:
            break
    return np.concatenate(parts)[:_SHOWN]
