"""Mean ranks, and which of them can be told apart."""

from __future__ import annotations

from matplotlib.figure import Figure

from offmap.evaluation import Aggregate
from offmap.plots._panels import ID, words


def ranks(networks: Aggregate, metric: str = "auroc") -> Figure:
    """Mean ranks of the detectors over the OOD sets, with bars of the critical difference.

    Detectors whose bars meet are not told apart by Nemenyi's test at 5 %; the band is that of the
    best. See :meth:`offmap.evaluation.Aggregate.ranks`.

    Args:
        networks: whose evaluations are taken together.
        metric: by which they are ranked.

    References:
        Demšar, JMLR 7, 2006, section 3.2.
    """
    ranking = networks.ranks(metric)
    names = sorted(ranking.mean, key=lambda name: ranking.mean[name])
    half = ranking.critical_difference / 2
    figure = Figure(figsize=(6, 0.24 * len(names) + 1.2), layout="constrained")
    axis = figure.subplots()
    axis.errorbar(
        [ranking.mean[name] for name in names],
        range(len(names)),
        xerr=half,
        fmt="o",
        ms=4,
        lw=1,
        capsize=2,
        color=ID,
    )
    best = ranking.mean[names[0]]
    axis.axvspan(best - half, best + half, color="0.9", zorder=0)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    words(
        axis,
        f"critical difference {ranking.critical_difference:.2f} (Nemenyi, 5 %)",
        f"mean rank by {metric} over {ranking.sets} OOD sets, 1 is the best",
    )
    return figure
