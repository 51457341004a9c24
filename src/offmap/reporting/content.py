"""The sections of an evaluation's report, and the data of its drawings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from offmap._utils.table import alike
from offmap.errors import UnknownNameError
from offmap.evaluation import Results
from offmap.evaluation.metric import METRICS, metric_of
from offmap.evaluation.significance import Against, Significance
from offmap.evaluation.tables import columns_of
from offmap.reporting import figures
from offmap.reporting.gallery import galleries
from offmap.reporting.rates import rates_of, record, right_of, steps
from offmap.reporting.sections import MARKS, Block, Figure, Section, Table, Text
from offmap.reporting.shifted import shifted
from offmap.reporting.verdict import verdict

_MENU = (
    *("auroc", "fpr_id_kept", "fpr_ood_caught", "aupr_in", "aupr_out", "detection_accuracy"),
    *("ood_caught", "id_alarm", "oscr", "aurc", "augrc"),
)


class Content:
    """The content of a report on an evaluation.

    Args:
        results: of the evaluation.
        inputs: data sets by name, for pictures; may be empty.
        command: that made the report.
        named: whether samples are called by their keys, which may be paths.
    """

    def __init__(
        self, results: Results, inputs: Mapping[str, Any], command: str, *, named: bool = True
    ) -> None:
        self.results, self.inputs, self.command, self.named = results, inputs, command, named
        self.sets = [name for names in results.groups.values() for name in names]
        self.columns = columns_of(results.groups)
        tests = Significance(results)
        self.against = [tests.against_best(sets) for _, _, sets in self.columns]
        self.best = self.against[-1].best
        self.rates = rates_of(results)
        self.steps = {d: steps(results, d, self.rates) for d in results.detectors}
        self.calibration = figures.calibration(results)

    @property
    def title(self) -> str:
        """The title of the report."""
        network = self.results.settings.get("model") or self.results.settings.get("network")
        return f"OOD detection: {network or 'a network'} on {self.id_name}"

    @property
    def id_name(self) -> str:
        """The name of the ID set."""
        of = next(s for s in self.results.sets if s.role == "id")
        return str(self.results.settings.get("id") or of.source or "its ID set")

    def sections(self) -> list[Section]:
        """All sections, the verdict first."""
        return [
            verdict(
                self.results, self.id_name, self.against[-1], self.rates, self.steps[self.best]
            ),
            self.slider(),
            self.table(),
            self.distributions(),
            self.selective(),
            *shifted(self.results),
            self.reliability(),
            self.samples(),
            self.notes(),
            self.settings(),
        ]

    def slider(self) -> Section:
        """The alarm rate, to be moved."""
        rates = self.rates
        source = "calibration" if rates.calibrated else "evaluated ID"
        words = (
            f"Thresholds come from the {rates.n:,} {source} scores; the counts at each of "
            f"{len(rates.rates)} rates are exact, none is binned. "
        )
        if rates.calibrated:
            words += (
                "A rate that was fixed beforehand holds on average. One that is chosen by moving "
                "the slider needs a promise for all its positions at once, which is wider and "
                "stands below it: a simultaneous band, for one detector."
            )
        else:
            words += "They are the evaluated samples themselves, so nothing is promised on others."
        figure = Figure("alarm", "What each detector keeps and catches at a chosen alarm rate.")
        return Section("alarm-rate", "The alarm rate", [Text(words), figure])

    def table(self) -> Section:
        """All detectors on all sets."""
        metric = metric_of("auroc")
        grid, places = self.results.grid("auroc"), self.results.grid("auroc").places()
        order = sorted(grid.cells, key=lambda d: -grid.cells[d][-1])  # by the mean of all sets
        texts, rows = grid.texts(), []
        for d in order:
            signs = (" ≈" if _as_good(against, d) else "" for against in self.against)
            cells = zip(texts[d], places[d], signs, strict=True)
            rows.append([d, *(f"{text}{MARKS[place]}{sign}" for text, place, sign in cells)])
        titles = [["", *(self._words(d, i) for i in range(len(self.columns)))] for d in order]
        words = (
            "★ best and ☆ second of a column, as shown. ≈: the best is not shown to be better "
            f"(paired DeLong test at 5%, corrected by Holm over all {self.against[0].pairs} pairs "
            "of detectors, as the best was picked on the same samples). Tests and intervals are of "
            "the AUROC; those of means count that all sets share their ID samples."
        )
        table = Table(
            metric.heading,
            ["detector", *grid.columns],
            rows,
            above=grid.above,
            titles=titles,
            name="detectors",
        )
        return Section("detectors", "All detectors", [Text(words), table])

    def _words(self, detector: str, i: int) -> str:
        against = self.against[i]
        low, high = against.intervals[detector]
        p_value = _p_value(against, detector)
        p = "" if p_value is None else f"; p = {p_value}"
        return f"{100 * low:.2f} to {100 * high:.2f}{p}"

    def distributions(self) -> Section:
        """Scores and ROC curves of each set."""
        words = (
            "Shares of samples by score: ID (full line) and each OOD set (dashed), of the detector "
            "and with the threshold (upright line) that are chosen above. What lies farther out is "
            "in the outer bars."
        )
        return Section(
            "scores",
            "Scores and ROC curves",
            [
                Text(words),
                Figure("histograms", "Score distributions of ID and of each OOD set."),
                Text("ROC curves; the detectors are chosen in the legend."),
                Figure("roc", "ROC curves of each OOD set."),
            ],
        )

    def selective(self) -> Section:
        """Wrong predictions among the accepted."""
        blocks: list[Block] = [Text("There are no labels for the ID samples, so neither is known.")]
        if right_of(self.results) is not None:
            blocks = [
                Text(
                    "Risk against coverage: the share of wrong predictions among the accepted ID "
                    "samples. OSCR: the share of ID accepted and rightly classified, against the "
                    "share of OOD accepted. The detectors are those chosen in the legend above."
                ),
                Figure("risk", "Risk against coverage of the ID samples."),
                Figure("oscr", "OSCR curves of each OOD set."),
            ]
        return Section("selective", "Accepted and right", blocks)

    def reliability(self) -> Section:
        """Whether the network is right as often as its confidence says."""
        if (diagram := self.calibration) is None:
            words = (
                "The probabilities of the network were not kept: they are known where msp (of an "
                "ensemble maxprobability) is among the detectors and the ID samples have labels; "
                "of a cascade, whose filter alone is scored, they are not."
            )
            return Section("calibration", "Is it as sure as it is right?", [Text(words)])
        words = (
            f"Expected calibration error {diagram['ece']:.2%} over "
            f"{diagram['n']:,} ID samples, 15 bins of equal width."
        )
        figure = Figure("reliability", "Accuracy against confidence, in bins.")
        rows = [
            [f"{confidence:.1%}", f"{accuracy:.1%}", f"{count:,}"]
            for confidence, accuracy, count in zip(
                diagram["confidence"], diagram["accuracy"], diagram["count"], strict=True
            )
        ]
        table = Table("Bins", ["mean confidence", "accuracy", "samples"], rows)
        return Section("calibration", "Is it as sure as it is right?", [Text(words), figure, table])

    def samples(self) -> Section:
        """Galleries."""
        threshold = self.steps[self.best].thresholds[self.rates.start]
        blocks = galleries(self.results, self.best, threshold, self.inputs, named=self.named)
        words = (
            "Each with its set, what the network takes it for, and p, the share of ID samples that "
            "score as high, by the calibration data."
        )
        texts = [Text(words)] if self.rates.calibrated else []
        return Section("samples", "Samples worth looking at", [*texts, *blocks])

    def notes(self) -> Section:
        """Left out, skipped, warned of."""
        settings = self.results.settings
        lines = list(self.results.notes())
        if isinstance(overlaps := settings.get("overlaps"), Mapping):
            lines += [f"samples in two sets: {k}: {v:,}" for k, v in overlaps.items()]
        if why := settings.get("why_no_head"):
            lines.append(f"no head: {why}")
        lines = lines or ["Nothing was left out, skipped or warned of."]
        return Section("notes", "Left out, skipped, warned of", [Text(line) for line in lines])

    def settings(self) -> Section:
        """The data, the settings, and what the detectors learned."""
        sets = [
            [s.name, s.role, f"{s.n:,}", s.source, s.transform, (s.fingerprint or "")[:16]]
            for s in self.results.sets
        ]
        head = ["set", "part", "samples", "source", "made by", "fingerprint"]
        rows = [["command", self.command]] if self.command else []
        rows += [
            [name, value if isinstance(value, str) else json.dumps(value, default=str)]
            for name, value in self.results.settings.items()
            if value is not None
        ]
        learned = alike(self.results.summaries)
        tables = [
            Table("Data", head, sets),
            Table("How it was run", ["setting", "value"], rows),
            Table("What the detectors learned", ["detector", "learned"], learned),
        ]
        return Section("settings", "Settings", [table for table in tables if table.rows])

    def data(self) -> dict[str, Any]:
        """The data that the page's script draws; detectors and sets by position."""
        results, sets = self.results, self.sets
        scores = results.scores[self.best]
        groups = {name: group for group, names in results.groups.items() for name in names}
        return {
            "detectors": results.detectors,
            "best": results.detectors.index(self.best),
            "sets": [{"name": s, "group": groups[s], "n": len(scores[s])} for s in sets],
            "id": {"name": self.id_name, "n": len(scores["id"])},
            "columns": [{"above": above, "name": name} for above, name, _ in self.columns],
            "rates": record(self.rates, self.steps),
            "metrics": [self._metric(name) for name in _MENU if self._has_metric(name)],
            "intervals": [[list(a.intervals[d]) for a in self.against] for d in results.detectors],
            "p_values": [[_p_value(a, d) for a in self.against] for d in results.detectors],
            "as_good": [[_as_good(a, d) for a in self.against] for d in results.detectors],
            "histograms": [figures.histograms(results, d, sets) for d in results.detectors],
            "roc": [figures.roc(results, d, sets) for d in results.detectors],
            "risk": [figures.risk(results, d) for d in results.detectors],
            "oscr": [figures.oscr(results, d, sets) for d in results.detectors],
            "reliability": self.calibration,
        }

    def _metric(self, name: str) -> dict[str, Any]:
        metric, grid = METRICS[name], self.results.grid(name)
        texts, places = grid.texts(), grid.places()  # rounded once, and here
        return {
            "name": name,
            "heading": f"{metric.words}; {metric.heading}",
            "low": metric.better == "low",
            "cells": [grid.cells[d] for d in self.results.detectors],
            "shown": [texts[d] for d in self.results.detectors],
            "places": [list(places[d]) for d in self.results.detectors],
        }

    def _has_metric(self, name: str) -> bool:
        try:
            self.results.grid(name)
        except UnknownNameError:
            return False
        return True


def _as_good(against: Against, detector: str) -> bool:
    return detector != against.best and against.as_good(detector)


def _p_value(against: Against, detector: str) -> str | None:
    """A p-value as it is shown; the best has none against itself."""
    return None if detector == against.best else f"{against.p_values[detector]:.2g}"
