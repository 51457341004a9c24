"""The sections on several networks or seeds: means, ranks and differences."""

from __future__ import annotations

import numpy as np

from offmap.evaluation import Aggregate, Results
from offmap.evaluation.significance import LEVEL
from offmap.reporting.drawings import ranks
from offmap.reporting.sections import MARKS, Block, Figure, Section, Table, Text
from offmap.reporting.studies import notes, settings


class Networks:
    """The content of a report on several networks.

    Args:
        aggregate: the networks, whose evaluations are taken together.
        command: that made the report.
    """

    def __init__(self, aggregate: Aggregate, command: str) -> None:
        self.aggregate, self.results, self.command = aggregate, aggregate.results, command
        self.sets = [name for names in aggregate.groups.values() for name in names]

    @property
    def title(self) -> str:
        """The title of the report."""
        return f"OOD detection: {len(self.results)} networks, {', '.join(self.results)}"

    def sections(self) -> list[Section]:
        """All sections, the best detector first."""
        several = len(self.aggregate.detectors) > 1
        return [
            self._verdict(),
            self._table(),
            *([self._ranks(), self._differences()] if several else []),
            self._by_network(),
            notes(self.results, tuple(self.aggregate.left_out)),
            settings(self.results, self.command),
        ]

    def _overall_auroc(self, detector: str) -> float:
        """The mean AUROC of a detector over all OOD sets and networks."""
        return float(self.aggregate.values(detector, self.sets).mean())

    def _verdict(self) -> Section:
        many = len(self.results)
        best = max(self.aggregate.detectors, key=self._overall_auroc)
        values = self.aggregate.values(best, self.sets)
        spread = f" ± {np.std(values, ddof=1):.2%}" if many > 1 else ""
        words = (
            f"The highest mean AUROC over {len(self.sets)} OOD sets and {many} networks is that "
            f"of {best}, {values.mean():.2%}{spread} (standard deviation over the networks). "
        )
        if len(self.aggregate.detectors) > 1 and many > 1:
            differences = self.aggregate.differences()
            alike = [d.detector for d in differences if d.p_value is None or d.p_value >= LEVEL]
            rivals = f"Not told apart from it: {', '.join(alike)}. "
            words += rivals if alike else "It beats all others. "
            words += "(Student's paired test over the networks, corrected by Holm over all pairs.) "
        words += "It was picked on these networks and OOD sets; on others, another may be best."
        return Section("verdict", "Verdict", [Text(words)])

    def _table(self) -> Section:
        grid = self.aggregate.grid()
        places = grid.places()
        rows = [
            [d, *(f"{text}{MARKS[p]}" for text, p in zip(row, places[d], strict=True))]
            for d, row in grid.texts().items()
        ]
        words = (
            "Mean ± standard deviation over the networks. ★ best and ☆ second of a column, as "
            "shown."
        )
        table = Table(
            grid.metric.heading, ["detector", *grid.columns], rows, above=grid.above, name="means"
        )
        return Section("detectors", "All detectors", [Text(words), table])

    def _ranks(self) -> Section:
        ranking = self.aggregate.ranks()
        mean, critical = ranking.mean, ranking.critical_difference
        p_value = ranking.p_value
        friedman = "" if p_value is None else f" (Friedman's test: p = {p_value:.2g})"
        words = (
            f"Mean ranks over {ranking.sets} OOD sets, of the means over the networks; 1 is the "
            f"best{friedman}. Each bar is as long as the critical difference of Nemenyi's test at "
            f"5%, {critical:.2f}: detectors whose bars meet are not told apart; the band is that "
            "of the best. Sets that share their ID samples and networks are not independent, so "
            "it is a rule of thumb (Demšar, JMLR 7, 2006)."
        )
        order = sorted(mean, key=lambda d: mean[d])
        text = "; ".join(f"{d}: {mean[d]:.2f}" for d in order)
        drawing = ranks("Mean ranks", f"Mean ranks. {text}", mean, critical)
        rows = [[d, f"{mean[d]:.2f}"] for d in order]
        blocks: list[Block] = [Text(words), Figure("ranks", text, drawing)]
        return Section("ranks", "Ranks", [*blocks, Table("Mean ranks", ["detector", "rank"], rows)])

    def _differences(self) -> Section:
        differences = self.aggregate.differences()
        rows = [
            [
                d.detector,
                f"{100 * d.difference:+.2f} ± {100 * d.deviation:.2f}",
                "" if d.p_value is None else f"{d.p_value:.2g}",
            ]
            for d in sorted(differences, key=lambda each: -each.difference)
        ]
        best = differences[0].against
        words = (
            "The networks are the sample here: two or three of them show little. p of Student's "
            "paired test, corrected by Holm over all pairs of detectors."
        )
        table = Table(
            f"AUROC in points minus that of {best}, paired over the networks",
            ["detector", "difference", "p"],
            rows,
        )
        return Section("differences", "Differences", [Text(words), table])

    def _by_network(self) -> Section:
        """Accuracy and best detector of each network, and all mean AUROCs."""
        detectors, rows = self.aggregate.detectors, []
        for name, results in self.results.items():
            means = {d: self._mean(results, d) for d in detectors}
            best = max(detectors, key=lambda d: means[d])
            right = results.accuracy
            share = "not known" if right is None else f"{right[0] / right[1]:.2%}"
            rows.append([name, share, best, f"{100 * means[best]:.2f}"])
        head = ["network", "accuracy", "its best detector", "mean AUROC in %"]
        cells = [
            [d, *(f"{100 * self._mean(results, d):.2f}" for results in self.results.values())]
            for d in sorted(detectors, key=lambda d: -self._overall_auroc(d))
        ]
        tables = [
            Table("Each network", head, rows),
            Table("Mean AUROC in % over the OOD sets", ["detector", *self.results], cells),
        ]
        return Section("networks", "Network by network", [*tables])

    def _mean(self, results: Results, detector: str) -> float:
        return float(np.mean([results.get(detector, name) for name in self.sets]))
