"""The verdict on an evaluation: the recommended detector, its promise, what it catches."""

from __future__ import annotations

from offmap._utils.percent import percent
from offmap.evaluation import Results
from offmap.evaluation.significance import Against
from offmap.metrics import share_interval
from offmap.reporting.rates import CONFIDENCE, Rates, Steps
from offmap.reporting.sections import Section, Table, Text


def verdict(
    results: Results, id_name: str, against: Against, rates: Rates, curve: Steps
) -> Section:
    """The network, the recommended detector, its promise, and what it catches.

    Args:
        results: of the evaluation.
        id_name: the name of the ID set.
        against: all detectors against the best over all OOD sets.
        rates: the positions of the slider.
        curve: the counts of the best detector at each of them.
    """
    accuracy = f"How often the network is right on {id_name} is not known: no labels."
    if results.accuracy is not None:
        right, n = results.accuracy
        accuracy = (
            f"The network is right on {right / n:.2%} of {id_name} ({right:,} of {n:,}; 95% "
            f"interval {_interval(right, n)})."
        )
    scores = results.scores[against.best]
    promise = _promise(rates, curve, len(scores["id"]))
    sets = [(group, name) for group, names in results.groups.items() for name in names]
    rows = []
    for (group, name), counts in zip(sets, curve.caught, strict=True):
        n, caught = len(scores[name]), counts[rates.start]
        rows.append([name, group, f"{n:,}", f"{caught / n:.1%}", _interval(caught, n)])
    table = Table(
        f"What {against.best} catches of each OOD set at that threshold",
        ["OOD set", "group", "samples", "caught", "95% interval"],
        rows,
        name="caught",
    )
    texts = map(Text, (accuracy, _recommendation(results, against), promise))
    return Section("verdict", "Verdict", [*texts, table])


def _recommendation(results: Results, against: Against) -> str:
    best, of = against.best, results.detectors
    if len(of) == 1:
        return f"The one detector is {best}."
    mean = results.mean(best)
    low, high = against.intervals[best]
    rivals = [d for d in of if d != best and against.as_good(d)]
    comparison = f"not told apart from it: {', '.join(rivals)}" if rivals else "it beats all others"
    return (
        f"Recommended: {best}, with the highest mean AUROC over the OOD sets, {mean:.2%} "
        f"(95% interval {low:.2%} to {high:.2%}); {comparison} (paired DeLong test, corrected for "
        f"{against.pairs} pairs by Holm). It was picked on these OOD sets; on others, another "
        "may be best."
    )


def _promise(rates: Rates, curve: Steps, n_id: int) -> str:
    rate = rates.rates[rates.start]
    alarms = n_id - curve.accepted[rates.start]
    share = (
        f"{alarms / n_id:.2%} of the {n_id:,} evaluated ID samples (95% interval "
        f"{_interval(alarms, n_id)})"
    )
    if not rates.calibrated:
        return (
            f"At the threshold where it calls {share} OOD. There was no calibration data: the "
            "threshold is taken from these very samples, and nothing is promised on others."
        )
    return (
        f"Its promise: of new ID samples it calls at most {percent(rate)} OOD, on average "
        f"over calibration sets; its threshold comes from {rates.n:,} held-out ID samples. It "
        f"called {share} OOD."
    )


def _interval(count: int, n: int) -> str:
    low, high = share_interval(count, n, level=CONFIDENCE)
    return f"{low:.2%} to {high:.2%}"
