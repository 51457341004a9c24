"""The harder protocol: six of ten classes are known, and the other four are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from offmap._utils.table import render
from offmap.evaluation import Results
from offmap.studies._anchors_systems import Training, evaluated
from offmap.studies._data import Data

KNOWN = 6
_OTHERS = "others"


@dataclass(frozen=True)
class Splits:
    """AUROC of each system on each split.

    Args:
        known: the known classes of each split.
        auroc: by network and detector, one a split.
        accuracy: closed-set accuracy by network, one a split.
    """

    known: list[list[int]]
    auroc: Mapping[str, list[float]]
    accuracy: Mapping[str, list[float]]

    def table(self) -> str:
        """AUROC by split, their mean and their standard deviation; closed-set accuracies below."""
        columns = ["".join(map(str, known)) for known in self.known]
        rows = dict(self.auroc) | {f"accuracy of {n}": list(v) for n, v in self.accuracy.items()}
        cells = rows
        if len(columns) > 1:
            columns += ["mean", "deviation"]
            cells = {
                name: [*values, float(np.mean(values)), float(np.std(values, ddof=1))]
                for name, values in rows.items()
            }
        body = render(cells, columns, scale=100, star=False)
        return f"{KNOWN} known classes (the headings) against the others, AUROC in %\n\n{body}"


def six_of_ten(out: Path, found: Data, training: Training, count: int) -> Splits:
    """Train and evaluate on as many seeded splits of the classes."""
    known, results = [], []
    for split in range(count):
        order = torch.randperm(10, generator=torch.Generator().manual_seed(split)).tolist()
        classes = sorted(order[:KNOWN])
        part = _of_classes(found, classes, sorted(order[KNOWN:]))
        names = ("plain", "anchors")
        folder = out / "".join(map(str, classes))
        results.append(
            evaluated(training.networks(folder, part, names), part, **training.running.options)
        )
        known.append(classes)
    systems = [(n, d) for n, each in results[0].items() for d in each.detectors]
    return Splits(
        known,
        {f"{n} {d}": [each[n].get(d, _OTHERS) for each in results] for n, d in systems},
        {n: [_accuracy(each[n]) for each in results] for n in ("plain", "anchors")},
    )


def _of_classes(found: Data, known: list[int], others: list[int]) -> Data:
    parts = {name: getattr(found, name).only(known) for name in ("train", "calibration", "test")}
    return replace(found, **parts, ood={"unknown": {_OTHERS: found.test.only(others)}})


def _accuracy(found: Results) -> float:
    info = next(s for s in found.sets if s.role == "id")
    assert info.right is not None
    return info.right / info.n
