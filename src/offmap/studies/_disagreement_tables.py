"""Study C in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from offmap._utils.table import render
from offmap.evaluation import Results
from offmap.evaluation.cascade_tables import SELECTION, cascade, figures, joint, ratio, swaps
from offmap.evaluation.cascades import System, Systems
from offmap.evaluation.differences import (
    auroc_difference,
    difference_table,
    mean_auroc_difference,
)
from offmap.evaluation.subsets import only_correct
from offmap.metrics import Difference
from offmap.studies._study import auroc_table, sets_of

SCORES = ("maxprobability", "totalentropy", "expectedentropy", "mutualinformation")
_METRICS = ("auroc", "aupr_in", "aupr_out", "fpr_id_kept", "fpr_ood_caught")
_CERTAIN = 0.99
# By detector: what its score is called.
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
    for name, of_network in results.items():
        info = next(s for s in of_network.sets if s.role == "id")
        shares = ", ".join(f"{right / info.n:.2%}" for right in info.members)
        members = f"accuracy of its members: {shares}\n" if shares else ""
        parts.append(f"== {name}: {sources.get(name, '')} ==\n{members}{of_network.table()}")
        parts += [of_network.table(metric) for metric in _METRICS[1:]]
        against_correct = only_correct(of_network, of_network.predictions["id"] == labels)
        parts.append(f"against the correctly classified ID images\n{against_correct.table()}")
        parts += [certainty(of_network)] if "maxprobability" in of_network.detectors else []
    plain, disagreement = results["plain"], results["disagreement"]
    for d in (d for d in disagreement.detectors if d in plain.detectors):
        heading = f"disagreement minus plain, {d}: AUROC"
        parts.append(difference_table(heading, differences(plain, disagreement, d)))
    systems = [Systems(results, labels, ood, seed) for ood in sets_of(plain)]
    parts += [decisions(of_set) for of_set in systems]
    for of_set in systems:
        parts += [cascade(of_set), *joint(of_set), swaps(of_set)]
    return "\n\n".join(parts)


def summary(
    results: Mapping[str, Results], labels: Any, sources: Mapping[str, str], seed: int
) -> str:
    """AUROC of the scores, their differences on the mean, and the cascade on the first set."""
    heading = "\n".join(f"{name}: {sources.get(name, '')}" for name in results)
    scores = (*SCORES, "msp", "energy")
    systems = ((n, d, r) for n, r in results.items() for d in scores if d in r.detectors)
    plain, disagreement = results["plain"], results["disagreement"]
    means = {
        d: mean_auroc_difference(disagreement.scores[d], plain.scores[d], sets_of(plain))
        for d in SCORES
    }
    return "\n\n".join(
        [
            heading,
            auroc_table(systems),
            difference_table("disagreement minus plain: mean AUROC over the sets", means),
            cascade(Systems(results, labels, sets_of(plain)[0], seed)),
        ]
    )


def certainty(results: Results) -> str:
    """Confidence, entropy and mutual information of an ensemble on each set."""
    cells = {}
    for name in ("id", *sets_of(results)):
        confident = results.scores["maxprobability"][name] < 1 - _CERTAIN
        cells[name] = [100 * float(confident.mean())]
        for detector, quantity in _MOMENTS.items():
            values = results.scores[detector][name].astype(np.float64)
            values = 1 - values if quantity == "confidence" else values
            cells[name] += [float(values.mean()), float(values.std())]
    columns = [f"confidence > {_CERTAIN}, %"]
    columns += [
        f"{quantity} {of}" for quantity in _MOMENTS.values() for of in ("mean", "deviation")
    ]
    return f"how sure it is\n\n{render(cells, columns, star=False)}"


def differences(plain: Results, disagreement: Results, detector: str) -> dict[str, Difference]:
    """The disagreeing ensemble minus the plain one: by set, and on the mean of the sets."""
    scores, plain_scores = disagreement.scores[detector], plain.scores[detector]
    sets = sets_of(plain)
    by_set = {name: auroc_difference(scores, plain_scores, name) for name in sets}
    return by_set | {"mean of the sets": mean_auroc_difference(scores, plain_scores, sets)}


def decisions(systems: Systems) -> str:
    """Every network by itself, with the threshold of the best detection accuracy."""
    cells = {}
    for filter in systems.filters:
        for where, part in (("held out", systems.held), ("evaluated", systems.rest)):
            threshold = systems.detection_threshold(filter, part)
            system = System(filter, filter.networks[0], threshold)
            selection = systems.outcomes(system, systems.rest).selection
            cells[f"{filter}, {where}"] = figures(selection)
    heading = (
        f"decisions on {systems.ood}, {ratio(systems.rest)}: accepted, and correct; threshold of "
        "the best detection accuracy on the held-out fifth, or (as the source did) on the "
        "evaluated images"
    )
    return f"{heading}\n\n{render(cells, SELECTION, star=False)}"
