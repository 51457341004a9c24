"""Study B in numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from offmap._utils.table import render
from offmap.evaluation import Results
from offmap.metrics import OpenSet, open_set
from offmap.studies._six_of_ten import Splits

_SHOWN = {
    "accepted": "known kept",
    "rejected": "unknown refused",
    "accuracy": "c+1 accuracy",
    "f1": "macro F1",
    "closed_accuracy": "closed-set",
    "oscr": "OSCR",
    "auroc": "AUROC",
}


def report(
    results: Mapping[str, Results],
    labels: Any,
    sources: Mapping[str, str],
    splits: Splits | None,
) -> str:
    """All tables."""
    parts = []
    for name, found in results.items():
        heading = f"== {name}: {sources.get(name, 'the anchors at the class means')} =="
        parts += [f"{heading}\n{found.table()}", found.table("ood_caught")]
    first = next(iter(results.values()))
    unknown = next(iter(first.groups.values()))
    parts += [decisions(results, labels, name) for name in unknown]
    return "\n\n".join([*parts, *([splits.table()] if splits else [])])


def decisions(results: Mapping[str, Results], labels: Any, unknown: str) -> str:
    """What each system makes of the known images and of one set of unknown ones, by threshold."""
    cells = {
        name: [getattr(found, metric) for metric in _SHOWN]
        for name, found in _decided(results, labels, unknown)
    }
    heading = (
        f"decisions on {unknown}, in %; calibrated: on held-out known images alone; best: the best "
        "balanced accuracy, chosen on the evaluated images themselves"
    )
    return f"{heading}\n\n{render(cells, list(_SHOWN.values()), scale=100, star=False)}"


def _decided(
    results: Mapping[str, Results], labels: Any, unknown: str
) -> Iterator[tuple[str, OpenSet]]:
    for network, found in results.items():
        for detector in found.detectors:
            for rule, threshold in _thresholds(found, detector, unknown).items():
                name = f"{network} {detector}, {rule} {threshold:.3g}"
                yield name, decided(found, labels, detector, unknown, threshold)


def _thresholds(found: Results, detector: str, unknown: str) -> dict[str, float]:
    rules = {
        "calibrated": found.get(detector, unknown, "threshold"),
        "best": found.get(detector, unknown, "detection_threshold"),
    }
    # The source's threshold has a meaning for distances alone.
    return rules | ({"fixed": 0.5} if detector == "anchordistance" else {})


def decided(found: Results, labels: Any, detector: str, unknown: str, threshold: float) -> OpenSet:
    """The open-set figures of one detector at one threshold."""
    scores = found.scores[detector]
    return open_set(
        labels,
        found.predicted["id"],
        scores["id"],
        found.predicted[unknown],
        scores[unknown],
        threshold=threshold,
        classes=int(labels.max()) + 1,
    )
