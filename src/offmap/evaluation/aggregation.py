"""Several networks or seeds as one: means, deviations, and ranks of the detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

import numpy as np
from jaxtyping import Float

from offmap._utils.table import render
from offmap.errors import ArgumentError
from offmap.evaluation.metric import metric_of
from offmap.evaluation.results import Results
from offmap.evaluation.tables import Grid, Tabular
from offmap.metrics import holm

_LEVEL = 0.05


@dataclass(frozen=True)
class PairedDifference:
    """A detector against the best one, network by network.

    Args:
        detector: its name.
        against: the best by its mean.
        difference: mean over the networks of its figure minus that of the best.
        deviation: of that difference over the networks.
        p_value: of Student's paired test, two-sided, corrected by Holm over all pairs of detectors;
            ``None`` for a single network.
    """

    detector: str
    against: str
    difference: float
    deviation: float
    p_value: float | None


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of the detectors over the OOD sets, 1 is the best.

    Args:
        mean: by detector; of the means over the networks, ties share their ranks.
        sets: how many OOD sets were ranked.
        p_value: of Friedman's test that all rank alike; ``None`` with fewer than three detectors or
            two sets.
        critical_difference: of two mean ranks, by Nemenyi's test at 5 %: what lies closer is not
            told apart. Sets of one evaluation share their ID samples and their networks, so it is a
            rule of thumb.

    References:
        Demšar, JMLR 7, 2006.
    """

    mean: dict[str, float]
    sets: int
    p_value: float | None
    critical_difference: float


@dataclass(frozen=True)
class Aggregate(Tabular):
    """Evaluations of several networks, paired by detector and OOD set.

    Args:
        results: by network.
        groups: names of the OOD sets that all have, by group.
        detectors: names of those that all have.
        left_out: what only some have, in words.
    """

    results: Mapping[str, Results]
    groups: dict[str, list[str]]
    detectors: list[str]
    left_out: list[str]

    def values(
        self, detector: str, sets: Sequence[str], metric: str = "auroc"
    ) -> Float[np.ndarray, " k"]:
        """The mean of a metric over some OOD sets, of each network.

        Raises:
            UnknownNameError: there is no such row or metric.
        """
        each = self.results.values()
        return np.array([np.mean([r.get(detector, s, metric) for s in sets]) for r in each])

    def grid(self, metric: str = "auroc") -> Grid:
        entry = metric_of(metric)
        means = Grid.of(
            entry,
            self.groups,
            self.detectors,
            lambda d, s: float(self.values(d, s, metric).mean()),
        )
        spread = Grid.of(
            entry, self.groups, self.detectors, lambda d, s: _deviation(self.values(d, s, metric))
        )
        deviations = spread.cells if len(self.results) > 1 else None
        return Grid(entry, means.columns, means.above, means.cells, deviations)

    def table(self, metric: str = "auroc") -> str:
        """Means and deviations, then ranks; * marks the best of a column."""
        grid = self.grid(metric)
        many = len(self.results)
        networks = f"{many} network{'s' if many > 1 else ''}: {', '.join(self.results)}"
        heading = f"{grid.metric.heading}; mean ± standard deviation over {networks}"
        parts = [f"{heading}\n\n{grid.render()}"]
        if grid.metric.better and len(self.detectors) > 1:
            parts += [self.ranks_table(metric), self.differences_table(metric)]
        if self.left_out:
            parts.append("\n".join(self.left_out))
        return "\n\n".join(parts)

    def differences(self, metric: str = "auroc") -> list[PairedDifference]:
        """Every detector against the best by the mean over all sets, paired over the networks.

        The networks are the sample here, so that few of them show little. The best detector was
        picked on the same networks, so the correction is over all pairs.

        Raises:
            ArgumentError: there is one detector.
        """
        self._check_several()
        sets = [name for names in self.groups.values() for name in names]
        values = {d: self.values(d, sets, metric) for d in self.detectors}
        sign = -1 if self.grid(metric).low else 1
        best = max(values, key=lambda d: sign * float(values[d].mean()))
        pairs = list(combinations(values, 2))
        tests = [_paired_p(values[a] - values[b]) for a, b in pairs]
        has_tests = None not in tests
        corrected = dict(zip(pairs, holm([t or 0.0 for t in tests]), strict=True))
        return [
            PairedDifference(
                detector,
                best,
                float((values[detector] - values[best]).mean()),
                _deviation(values[detector] - values[best]),
                corrected.get((detector, best), corrected.get((best, detector)))
                if has_tests
                else None,
            )
            for detector in self.detectors
            if detector != best
        ]

    def _check_several(self) -> None:
        if len(self.detectors) < 2:
            raise ArgumentError(
                f"detectors are compared with each other, and there is {self.detectors[0]} alone: "
                "give results of several detectors"
            )

    def differences_table(self, metric: str = "auroc") -> str:
        """Each detector minus the best, with the corrected p-values."""
        scale = metric_of(metric).scale
        differences = self.differences(metric)
        pairs = len(self.detectors) * (len(self.detectors) - 1) // 2
        lines = [
            f"mean over all sets minus that of {differences[0].against}, paired over the networks; "
            f"p of Student's test, corrected (Holm, {pairs} pairs)"
        ]
        width = max(len(each.detector) for each in differences)
        for each in differences:
            p = "" if each.p_value is None else f", p = {each.p_value:.2g}"
            lines.append(
                f"  {each.detector:<{width}}  {scale * each.difference:+7.2f} ± "
                f"{scale * each.deviation:.2f}{p}"
            )
        return "\n".join(lines)

    def ranks(self, metric: str = "auroc") -> Ranks:
        """Mean ranks of the detectors over the OOD sets.

        Raises:
            ArgumentError: there is one detector.
        """
        from scipy import stats  # here: it takes a second

        self._check_several()

        sets = [name for names in self.groups.values() for name in names]
        sign = 1 if metric_of(metric).better == "low" else -1
        table = np.array(
            [[sign * self.values(d, [s], metric).mean() for d in self.detectors] for s in sets]
        )
        means = stats.rankdata(table, axis=1).mean(0)
        n, k = table.shape
        p_value = None
        if k > 2 and n > 1:
            alike = (table == table[:, :1]).all()  # Friedman's test has no value there
            p_value = 1.0 if alike else float(stats.friedmanchisquare(*table.T).pvalue)
        critical = float(stats.studentized_range.ppf(1 - _LEVEL, k, np.inf)) / sqrt(2)
        return Ranks(
            dict(zip(self.detectors, means.tolist(), strict=True)),
            n,
            p_value,
            critical * sqrt(k * (k + 1) / (6 * n)),
        )

    def ranks_table(self, metric: str = "auroc") -> str:
        """Mean ranks, best first, with the critical difference."""
        ranks = self.ranks(metric)
        order = sorted(ranks.mean, key=lambda d: ranks.mean[d])
        test = "" if ranks.p_value is None else f"; Friedman p = {ranks.p_value:.2g}"
        heading = (
            f"mean rank over {ranks.sets} OOD sets{test}; critical difference "
            f"{ranks.critical_difference:.2f} (Nemenyi, 5 %)"
        )
        body = render({d: [ranks.mean[d]] for d in order}, ["rank"], low=True)
        return f"{heading}\n\n{body}"


def aggregate(results: Mapping[str, Results] | Sequence[Results]) -> Aggregate:
    """Several evaluations, of other networks or seeds, as means and deviations.

    Args:
        results: by the name of the network, or one after the other. Only detectors and OOD sets
            that all of them have are averaged.

    Raises:
        ArgumentError: none, one network twice, or no detector and OOD set in common.
    """
    by_name = (
        dict(results)
        if isinstance(results, Mapping)
        else {str(i): each for i, each in enumerate(results, 1)}
    )
    if not by_name:
        raise ArgumentError("aggregate takes at least one evaluation; seen none")
    for (a, of_a), (b, of_b) in combinations(by_name.items(), 2):
        if of_a == of_b:  # the deviation of one evaluation given twice, 0, would say nothing
            raise ArgumentError(f"{a} and {b} are one evaluation: give each once")
    first = next(iter(by_name.values()))
    detectors = [d for d in first.detectors if all(d in r.detectors for r in by_name.values())]
    shared = set.intersection(*(set(_sets(each)) for each in by_name.values()))
    groups = {g: [n for n in names if n in shared] for g, names in first.groups.items()}
    groups = {group: names for group, names in groups.items() if names}
    if not detectors or not groups:
        raise ArgumentError("these results share no " + ("detector" if groups else "OOD set"))
    notes = [
        *_missing_in_some("detector", by_name, detectors),
        *_missing_in_some("OOD set", by_name, sorted(shared)),
        *_other_samples(by_name, sorted(shared)),
    ]
    return Aggregate(by_name, groups, detectors, notes)


def _sets(results: Results) -> list[str]:
    return [name for names in results.groups.values() for name in names]


def _missing_in_some(kind: str, by_name: Mapping[str, Results], common: Sequence[str]) -> list[str]:
    """A note on the detectors, or OOD sets, that only some of the evaluations have."""
    lists = [each.detectors if kind == "detector" else _sets(each) for each in by_name.values()]
    names = dict.fromkeys(name for of_one in lists for name in of_one if name not in common)
    return [f"left out, as not all have the {kind}: {', '.join(names)}"] if names else []


def _other_samples(by_name: Mapping[str, Results], sets: Sequence[str]) -> list[str]:
    """A note on sets that hold other samples in some evaluations, by their fingerprints."""
    prints: dict[str, set[str | None]] = {}
    for each in by_name.values():
        for info in each.sets:
            if info.role == "id" or info.name in sets:
                prints.setdefault(info.name, set()).add(info.fingerprint)
    names = [name for name, of in prints.items() if len(of) > 1]
    return [f"not the same samples in all of them: {', '.join(names)}"] if names else []


def _deviation(values: Float[np.ndarray, " k"]) -> float:
    """The sample standard deviation; 0 of a single value, which has none."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _paired_p(differences: Float[np.ndarray, " k"]) -> float | None:
    from scipy import stats  # here: it takes a second

    if len(differences) < 2:
        return None
    if not differences.std():  # Student's test has no value there
        return float(differences[0] == 0)
    return float(stats.ttest_1samp(differences, 0.0).pvalue)
