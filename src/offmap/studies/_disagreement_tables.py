"""Study C in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from offmap._utils.table import render
from offmap.evaluation import Results
from offmap.metrics import Selection, delong_test, delong_test_of_mean
from offmap.studies._parts import only_right
from offmap.studies._systems import Choice, Systems
from offmap.studies._tables import difference_line

_METRICS = ("auroc", "aupr_in", "aupr_out", "fpr_id_kept", "fpr_ood_caught")
_CERTAIN = 0.99
# By detector: what is told of its score.
_MOMENTS = {
    "maxprobability": "confidence",
    "totalentropy": "entropy",
    "mutualinformation": "information",
}


def report(
    results: Mapping[str, Results], labels: Any, sources: Mapping[str, str], seed: int
) -> str:
    """All tables."""
    parts = []
    for name, found in results.items():
        parts += _of_network(name, sources.get(name, ""), found, labels)
    plain, disagreeing = results["plain"], results["disagreement"]
    parts += differences(plain, disagreeing)
    parts += [_decisions(results, labels, ood, seed) for ood in _sets(plain)]
    parts += [_together(Systems(results, labels, ood, seed)) for ood in _sets(plain)]
    return "\n\n".join(parts)


def _of_network(name: str, source: str, found: Results, labels: Any) -> list[str]:
    right = only_right(found, found.predicted["id"] == labels)
    parts = [f"== {name}: {source} ==\n{_members(found)}{found.table()}"]
    parts += [found.table(metric) for metric in _METRICS[1:]]
    parts.append(f"against the ID images that are answered rightly\n{right.table()}")
    return [*parts, certainty(found)] if "maxprobability" in found.detectors else parts


def _members(found: Results) -> str:
    info = next(s for s in found.sets if s.role == "id")
    if not info.members:
        return ""
    shares = ", ".join(f"{right / info.n:.2%}" for right in info.members)
    return f"accuracy of its members: {shares}\n"


def certainty(found: Results) -> str:
    """How sure an ensemble is of each set: its confidence, entropy and mutual information."""
    cells = {name: _certainty(found, name) for name in ("id", *_sets(found))}
    columns = [f"confidence > {_CERTAIN}, %"]
    columns += [f"{what} {of}" for what in _MOMENTS.values() for of in ("mean", "deviation")]
    return f"how sure it is\n\n{render(cells, columns, star=False)}"


def _certainty(found: Results, name: str) -> list[float]:
    row = [100 * float((found.scores["maxprobability"][name] < 1 - _CERTAIN).mean())]
    for detector, what in _MOMENTS.items():
        values = found.scores[detector][name].astype(np.float64)
        values = 1 - values if what == "confidence" else values
        row += [float(values.mean()), float(values.std())]
    return row


def differences(plain: Results, other: Results) -> list[str]:
    """The disagreeing ensemble minus the plain one: by score and set, and on their mean."""
    parts = []
    for d in (d for d in other.detectors if d in plain.detectors):
        ours, theirs = other.scores[d], plain.scores[d]
        sets = _sets(plain)
        lines = [
            difference_line(s, delong_test(ours["id"], ours[s], theirs["id"], theirs[s]))
            for s in sets
        ]
        mean = delong_test_of_mean(
            ours["id"], [ours[s] for s in sets], theirs["id"], [theirs[s] for s in sets]
        )
        heading = f"disagreement minus plain, {d}: AUROC in points, 95 % interval, paired test"
        parts.append("\n".join([heading, *lines, difference_line("mean of the sets", mean)]))
    return parts


def _decisions(results: Mapping[str, Results], labels: Any, ood: str, seed: int) -> str:
    """Every system by itself, with the threshold of the best detection accuracy."""
    systems = Systems(results, labels, ood, seed)
    cells = {}
    for of in systems.filters:
        for where, part in (("held out", systems.held), ("evaluated", systems.rest)):
            threshold = systems.detection_threshold(of, part)
            choice = Choice(of, of[0], threshold, float("nan"))
            found = systems.outcomes(choice, systems.rest).selection
            cells[f"{of[0]} {of[1]}, {where}"] = _figures(found)
    heading = (
        f"decisions on {ood}, {_ratio(systems.rest)}: accepted, and right; threshold of the best "
        "detection accuracy on the held-out fifth, or (as the source did) on the evaluated images"
    )
    return f"{heading}\n\n{render(cells, _COLUMNS, star=False)}"


_COLUMNS = ["detection, %", "accepted", "precision, %", "recall, %", "F1, %"]


def _figures(found: Selection) -> list[float]:
    shares = (found.precision, found.recall, found.f1)
    return [100 * found.detection_accuracy, found.accepted, *(100 * share for share in shares)]


def _ratio(part: Any) -> str:
    return f"ID:OOD = {len(part.known)}:{len(part.unknown)}"


def _together(systems: Systems) -> str:
    """The pair that was best on the held-out part, against its parts alone."""
    found = systems.chosen()
    names = ("cascade", "its filter alone", "its classifier alone")
    cells = {
        f"{name}: {_named(choice)}": _figures(outcomes.selection)
        for name, choice, outcomes in zip(
            names, (found.cascade, *found.alone), found.outcomes, strict=True
        )
    }
    lines = [
        f"  cascade minus {name}: F1 {100 * d.difference:+.2f} points "
        f"({100 * d.low:+.2f} to {100 * d.high:+.2f}), p = {d.p_value:.2g}"
        for name, d in zip(names[1:], found.differences, strict=True)
    ]
    heading = (
        f"accept by one, answer with another, on {systems.ood}, {_ratio(systems.rest)}: pair and "
        "thresholds of the best F1 on the held-out fifth; paired bootstrap"
    )
    return "\n".join([heading, "", render(cells, _COLUMNS, star=False), *lines])


def _named(choice: Choice) -> str:
    network, detector = choice.filter
    return f"{network} {detector} accepts, {choice.classifier} answers"


def _sets(found: Results) -> list[str]:
    return [name for names in found.groups.values() for name in names]
