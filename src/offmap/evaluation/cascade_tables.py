"""Systems of several networks in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from offmap._utils.table import render
from offmap.evaluation.cascades import Systems, SystemTest
from offmap.evaluation.exchange import Exchange, Swap
from offmap.evaluation.results import Results
from offmap.evaluation.subsets import Part
from offmap.metrics import Selection

SELECTION = ["detection, %", "accepted", "precision, %", "recall, %", "F1, %"]
_SWAP = [
    *("answers only it knows", "of them accepted, %"),
    *("only the filter's", "of them accepted, %", "F1, points"),
]


def systems_text(
    results: Mapping[str, Results], labels: Any, sets: Sequence[str], seed: int
) -> str:
    """Both kinds of systems on each OOD set, and on all of them as one.

    Args:
        results: by network, all on the same samples.
        labels: of the ID samples.
        sets: names of OOD sets.
        seed: of what is held out to choose on.
    """
    several = [tuple(sets)] if len(sets) > 1 else []
    parts = []
    for of in (*((name,) for name in sets), *several):
        systems = Systems(results, labels, of, seed)
        parts += [cascade(systems), *joint(systems), swaps(systems)]
    return "\n\n".join(parts)


def cascade(systems: Systems) -> str:
    """The best pair by the held-out part, against its filter and its classifier alone."""
    heading = (
        f"accept by one, predict by another, on {systems.ood}, {ratio(systems.rest)}: pair and "
        "thresholds of the best F1 on the held-out fifth; paired bootstrap"
    )
    return "\n".join([heading, "", *_against("cascade", systems.test())])


def joint(systems: Systems) -> list[str]:
    """The best filter of several networks by the held-out part, against each network alone."""
    if (test := systems.test_joint()) is None:
        return []
    heading = (
        f"accept together, one predicts, on {systems.ood}, {ratio(systems.rest)}: the mean of the "
        "scores, each in deviations on the held-out fifth, where all else is chosen too"
    )
    return ["\n".join([heading, "", *_against("together", test)])]


def swaps(systems: Systems) -> str:
    """How another network's answers change the F1, filter by filter, at the same threshold."""
    cells = {}
    for own in systems.results:
        for other in (name for name in systems.results if name != own):
            system = systems.tuned(systems.best_alone(own).filter, other)
            of_own, of_other = (systems.correct[n][systems.rest.id] for n in (own, other))
            swap = Swap.of(of_own, of_other, systems.outcomes(system, systems.rest))
            shares = ((n, 100 * accepted / max(n, 1)) for n, accepted in (swap.gained, swap.lost))
            cells[f"{system.filter} accepts, {other} predicts"] = [
                *(x for pair in shares for x in pair),
                100 * swap.difference,
            ]
    heading = (
        f"another network's answers behind the same filter and threshold, on {systems.ood}: known "
        "only to it, and only to the filter's own network"
    )
    return f"{heading}\n\n{render(cells, _SWAP, star=False)}"


def figures(selection: Selection) -> list[float]:
    """One row of a table with the columns ``SELECTION``."""
    shares = (selection.precision, selection.recall, selection.f1)
    return [
        100 * selection.detection_accuracy,
        selection.accepted,
        *(100 * share for share in shares),
    ]


def ratio(part: Part) -> str:
    """ID:OOD, in words."""
    return f"ID:OOD = {len(part.id)}:{len(part.ood)}"


def _against(name: str, test: SystemTest) -> list[str]:
    systems = {name: test.system, **test.alone}
    cells = {
        f"{called}: {system.filter} accepts, {system.classifier} predicts": figures(
            outcomes.selection
        )
        for (called, system), outcomes in zip(systems.items(), test.outcomes, strict=True)
    }
    lines = [render(cells, SELECTION, star=False)]
    ours, *theirs = test.outcomes
    for other, d, outcomes in zip(test.alone, test.differences, theirs, strict=True):
        lines.append(
            f"  {name} minus {other}: F1 {100 * d.difference:+.2f} points "
            f"({100 * d.low:+.2f} to {100 * d.high:+.2f}), p = {d.p_value:.2g}"
        )
        lines.append(f"    {Exchange.of(ours, outcomes)}")
    return lines
