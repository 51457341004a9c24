"""Which detectors the best one is significantly better than, on these samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from offmap.evaluation.results import Results
from offmap.evaluation.whole import check_whole
from offmap.metrics import Interval, Placements, holm, placed_difference, placed_interval

LEVEL = 0.05


@dataclass(frozen=True)
class Against:
    """Detectors compared with the best of them, by their mean AUROC over some OOD sets.

    Args:
        best: its name.
        intervals: 95 % interval of each mean AUROC; all sets share their ID samples.
        p_values: of the paired test of each against the best, corrected by Holm over all pairs of
            detectors: the best was picked on the same samples. That of the best is 1.
        pairs: how many pairs there are.
    """

    best: str
    intervals: Mapping[str, Interval]
    p_values: Mapping[str, float]
    pairs: int

    def as_good(self, detector: str) -> bool:
        """Whether the best is not shown to be better than this one."""
        return self.p_values[detector] >= LEVEL


class Significance:
    """The tests of an evaluation's columns; placements are computed once for all of them.

    Args:
        results: of an evaluation.

    Raises:
        ArgumentError: its rows are of only some of its samples.
    """

    def __init__(self, results: Results) -> None:
        check_whole(results)
        self.results = results
        self.sets = [name for names in results.groups.values() for name in names]
        self.placements = {}
        for detector in results.detectors:
            scores = results.scores[detector]
            of_sets = [scores[name] for name in self.sets]
            self.placements[detector] = Placements.of(scores["id"], of_sets)

    def against_best(self, sets: Sequence[str]) -> Against:
        """Every detector against the best by the mean AUROC over these OOD sets."""
        names = self.results.detectors
        where = [self.sets.index(name) for name in sets]
        parts = {name: self.placements[name].only(where) for name in names}
        best = max(names, key=lambda name: parts[name].mean_and_deviation()[0])
        pairs = list(combinations(names, 2))
        tests = [placed_difference(parts[a], parts[b]).p_value for a, b in pairs]
        corrected = dict(zip(pairs, holm(tests), strict=True))
        return Against(
            best,
            {name: placed_interval(parts[name]) for name in names},
            {best: 1.0}
            | {a if b == best else b: p for (a, b), p in corrected.items() if best in (a, b)},
            len(pairs),
        )
