"""The sections on several networks or seeds: means, ranks and differences."""

from __future__ import annotations

import numpy as np

from offmap.evaluation import Aggregate, Results
from offmap.evaluation.significance import LEVEL
from offmap.reporting.drawings import ranks
from offmap.reporting.sections import Block, Figure, Section, Table, Text
from offmap.reporting.studies import notes, settings

_MARKS = {0: "", 1: " ★", 2: " ☆"}


def title_of(networks: Aggregate) -> str:
    """The title of the report."""
    return f"OOD detection: {len(networks.results)} networks, {', '.join(networks.results)}"


def sections_of(networks: Aggregate, command: str) -> list[Section]:
    """All sections, the best detector first.

    Args:
        networks: whose evaluations are taken together.
        command: that made the report.
    """
    several = len(networks.detectors) > 1
    return [
        _verdict(networks),
        _table(networks),
        *([_ranks(networks), _differences(networks)] if several else []),
        _by_network(networks),
        notes(networks.results, tuple(networks.left_out)),
        settings(networks.results, command),
    ]


def _sets(networks: Aggregate) -> list[str]:
    return [name for names in networks.groups.values() for name in names]


def _overall_auroc(networks: Aggregate, detector: str) -> float:
    """The mean AUROC of a detector over all OOD sets and networks."""
    return float(networks.values(detector, _sets(networks)).mean())


def _verdict(networks: Aggregate) -> Section:
    many = len(networks.results)
    best = max(networks.detectors, key=lambda d: _overall_auroc(networks, d))
    values = networks.values(best, _sets(networks))
    spread = f" ± {np.std(values, ddof=1):.2%}" if many > 1 else ""
    words = (
        f"The highest mean AUROC over {len(_sets(networks))} OOD sets and {many} networks is that "
        f"of {best}, {values.mean():.2%}{spread} (standard deviation over the networks). "
    )
    if len(networks.detectors) > 1 and many > 1:
        differences = networks.differences()
        alike = [d.detector for d in differences if d.p_value is None or d.p_value >= LEVEL]
        words += (
            f"Not told apart from it: {', '.join(alike)}. " if alike else "It beats all others. "
        )
        words += "(Student's paired test over the networks, corrected by Holm over all pairs.) "
    words += "It was picked on these networks and OOD sets; on others, another may be best."
    return Section("verdict", "Verdict", [Text(words)])


def _table(networks: Aggregate) -> Section:
    grid, places = networks.grid(), networks.grid().places()
    rows = [
        [d, *(f"{text}{_MARKS[p]}" for text, p in zip(row, places[d], strict=True))]
        for d, row in grid.texts().items()
    ]
    words = (
        "Mean ± standard deviation over the networks. ★ best and ☆ second of a column, as shown."
    )
    table = Table(
        grid.metric.heading, ["detector", *grid.columns], rows, above=grid.above, name="means"
    )
    return Section("detectors", "All detectors", [Text(words), table])


def _ranks(networks: Aggregate) -> Section:
    ranking = networks.ranks()
    friedman = "" if ranking.p_value is None else f" (Friedman's test: p = {ranking.p_value:.2g})"
    words = (
        f"Mean ranks over {ranking.sets} OOD sets, of the means over the networks; 1 is the best"
        f"{friedman}. Each bar is as long as the critical difference of Nemenyi's test at 5%, "
        f"{ranking.critical_difference:.2f}: detectors whose bars meet are not told apart; the "
        "band is that of the best. Sets that share their ID samples and networks are not "
        "independent, so it is a rule of thumb (Demšar, JMLR 7, 2006)."
    )
    order = sorted(ranking.mean, key=lambda d: ranking.mean[d])
    text = "; ".join(f"{d}: {ranking.mean[d]:.2f}" for d in order)
    drawing = ranks("Mean ranks", f"Mean ranks. {text}", ranking.mean, ranking.critical_difference)
    rows = [[d, f"{ranking.mean[d]:.2f}"] for d in order]
    blocks: list[Block] = [Text(words), Figure("ranks", text, drawing)]
    return Section("ranks", "Ranks", [*blocks, Table("Mean ranks", ["detector", "rank"], rows)])


def _differences(networks: Aggregate) -> Section:
    differences = networks.differences()
    rows = [
        [
            d.detector,
            f"{100 * d.difference:+.2f} ± {100 * d.deviation:.2f}",
            "" if d.p_value is None else f"{d.p_value:.2g}",
        ]
        for d in sorted(differences, key=lambda each: -each.difference)
    ]
    caption = f"AUROC in points minus that of {differences[0].against}, paired over the networks"
    words = (
        "The networks are the sample here: two or three of them show little. p of Student's paired "
        "test, corrected by Holm over all pairs of detectors."
    )
    table = Table(caption, ["detector", "difference", "p"], rows)
    return Section("differences", "Differences", [Text(words), table])


def _by_network(networks: Aggregate) -> Section:
    """Accuracy and best detector of each network, and all mean AUROCs."""
    rows = []
    for name, results in networks.results.items():
        best = max(networks.detectors, key=lambda d: float(_mean(networks, results, d)))
        right = results.accuracy
        share = "not known" if right is None else f"{right[0] / right[1]:.2%}"
        rows.append([name, share, best, f"{100 * _mean(networks, results, best):.2f}"])
    head = ["network", "accuracy", "its best detector", "mean AUROC in %"]
    cells = [
        [d, *(f"{100 * _mean(networks, r, d):.2f}" for r in networks.results.values())]
        for d in sorted(networks.detectors, key=lambda d: -_overall_auroc(networks, d))
    ]
    tables = [
        Table("Each network", head, rows),
        Table("Mean AUROC in % over the OOD sets", ["detector", *networks.results], cells),
    ]
    return Section("networks", "Network by network", [*tables])


def _mean(networks: Aggregate, results: Results, detector: str) -> float:
    return float(np.mean([results.get(detector, name) for name in _sets(networks)]))
