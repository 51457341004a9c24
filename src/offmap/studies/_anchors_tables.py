"""Study B in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from offmap._utils.table import filled, render
from offmap.evaluation import Results
from offmap.metrics import OpenSet, open_set
from offmap.studies._study import auroc_table, sets_of

# What fits on one screen.
_MAIN = {
    "plain": ("msp", "energy"),
    "anchors": ("anchordistance",),
    "estimated": ("anchordistance",),
}
_COLUMNS = {
    "accepted": "known kept",
    "rejected": "unknown refused",
    "accuracy": "c+1 accuracy",
    "f1": "macro F1",
    "closed_accuracy": "closed-set",
    "oscr": "OSCR",
    "auroc": "AUROC",
}
_BRIEF = 5  # columns for one screen


@dataclass(frozen=True)
class Splits:
    """AUROC of each system on each split of the classes into known and unknown ones.

    Args:
        known: the known classes of each split.
        auroc: by network and detector, one a split.
        accuracy: closed-set accuracy by network, one a split.
    """

    known: list[list[int]]
    auroc: Mapping[str, list[float]]
    accuracy: Mapping[str, list[float]]

    def only(self, systems: Mapping[str, Sequence[str]]) -> Splits:
        """The same of some detectors, by network."""
        names = [f"{network} {d}" for network, of in systems.items() for d in of]
        return replace(self, auroc={name: self.auroc[name] for name in names})

    def table(self) -> str:
        """AUROC by split, their mean and their standard deviation; closed-set accuracies below."""
        columns = ["".join(map(str, classes)) for classes in self.known]
        cells = dict(self.auroc) | {f"accuracy of {n}": list(v) for n, v in self.accuracy.items()}
        if len(columns) > 1:
            columns += ["mean", "deviation"]
            cells = {
                name: [*values, float(np.mean(values)), float(np.std(values, ddof=1))]
                for name, values in cells.items()
            }
        body = render(cells, columns, scale=100, star=False)
        count = len(self.known[0])
        return f"{count} known classes (the headings) against the others, AUROC in %\n\n{body}"


def report(
    results: Mapping[str, Results],
    labels: Any,
    sources: Mapping[str, str],
    splits: Splits | None,
) -> str:
    """All tables."""
    parts = []
    for name, of_network in results.items():
        heading = f"== {name}: {sources.get(name, 'the anchors at the class means')} =="
        parts += [f"{heading}\n{of_network.table()}", of_network.table("ood_caught")]
    parts += [decisions(results, labels, ood) for ood in sets_of(results["plain"])]
    return "\n\n".join([*parts, *([splits.table()] if splits else [])])


def summary(
    results: Mapping[str, Results],
    labels: Any,
    sources: Mapping[str, str],
    splits: Splits | None,
) -> str:
    """AUROC of every system; of the main ones decisions on the first OOD set, and the splits."""
    systems = (
        (n, d, of_network) for n, of_network in results.items() for d in of_network.detectors
    )
    main = {name: results[name].only(of) for name, of in _MAIN.items()}
    parts = [
        "\n".join(f"{name}: {source}" for name, source in sources.items()),
        auroc_table(systems, mean_of="unknown"),
        decisions(main, labels, sets_of(results["plain"])[0], brief=True),
    ]
    return "\n\n".join([*parts, *([splits.only(_MAIN).table()] if splits else [])])


_RULES = {
    "calibrated": "on held-out known images alone",
    "best": "the best balanced accuracy, chosen on the evaluated images themselves",
}


def decisions(results: Mapping[str, Results], labels: Any, ood: str, *, brief: bool = False) -> str:
    """Open-set figures of each system on the known images and one OOD set, by threshold.

    Args:
        results: by network.
        labels: of the known images.
        ood: the OOD set.
        brief: at calibrated thresholds alone, and the columns that fit on a screen.
    """
    columns = [*_COLUMNS][: _BRIEF if brief else None]
    cells = {}
    for network, of_network in results.items():
        for detector in of_network.detectors:
            thresholds = {"calibrated": of_network.get(detector, ood, "threshold")}
            if not brief:
                thresholds["best"] = of_network.get(detector, ood, "detection_threshold")
                if detector == "anchordistance":  # the source's has a meaning for distances alone
                    thresholds["fixed"] = 0.5
            for rule, threshold in thresholds.items():
                system = f"{network} {detector}" + ("" if brief else f", {rule} {threshold:.3g}")
                outcome = decision(of_network, labels, detector, ood, threshold)
                cells[system] = [getattr(outcome, column) for column in columns]
    rules = [*_RULES][: 1 if brief else None]
    meaning = "; ".join(f"{rule}: {_RULES[rule]}" for rule in rules)
    body = render(cells, [_COLUMNS[name] for name in columns], scale=100, star=False)
    return filled(f"decisions on {ood}, in %; {meaning}") + f"\n\n{body}"


def decision(results: Results, labels: Any, detector: str, ood: str, threshold: float) -> OpenSet:
    """The open-set figures of one detector at one threshold."""
    scores = results.scores[detector]
    return open_set(
        labels,
        results.predictions["id"],
        scores["id"],
        results.predictions[ood],
        scores[ood],
        threshold=threshold,
        classes=int(labels.max()) + 1,
    )
