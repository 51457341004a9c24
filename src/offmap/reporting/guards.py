"""The sections of a guard's report: what it is, what it promises, and on what grounds."""

from __future__ import annotations

from collections.abc import Mapping

from offmap._utils.percent import about, at_most, percent
from offmap.errors import ArgumentError
from offmap.guard import Check
from offmap.guard.promise import expected_of
from offmap.guard.sensitivity import threshold_of
from offmap.guard.words import Facts
from offmap.reporting.drawings import histogram
from offmap.reporting.sections import Block, Figure, Section, Table, Text

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_NO_RECALL = (
    "How many OOD samples it catches depends on what they are, and no ID data can show it: "
    "measure it on OOD data."
)


class Promise:
    """The content of a report on a guard.

    Args:
        facts: of the guard.
        checks: of it on fresh data, by the name of the data.
        command: that made the report.
    """

    def __init__(self, facts: Facts, checks: Mapping[str, Check], command: str) -> None:
        self.facts, self.checks, self.command = facts, checks, command

    @property
    def title(self) -> str:
        """The title of the report."""
        return f"A guard around {self.facts.model or self.facts.network}"

    def sections(self) -> list[Section]:
        """All sections, the promise first."""
        settings = [*self.facts.made_of(), *([f"Command: {self.command}"] if self.command else [])]
        parts = [
            self._promise(),
            self._alarms(),
            self._scores(),
            self._rates(),
            self._sensitivity(),
            self._learned(),
            Section("settings", "Settings", [Text(line) for line in settings]),
        ]
        return [part for part in parts if part.blocks]

    def _promise(self) -> Section:
        facts = self.facts
        names = ", ".join(map(repr, facts.detectors))
        texts = [Text(f"A network {facts.network}, guarded by {names}.")]
        if facts.calibration is None:
            texts.append(Text("It has no threshold yet, and promises nothing: calibrate it."))
            return Section("verdict", "Promise", [*texts])
        texts += [Text(line) for line in facts.calibration.explain().splitlines()]
        texts += [] if facts.control is None else [Text(str(facts.control))]
        return Section("verdict", "Promise", [*texts, Text(_NO_RECALL)])

    def _alarms(self) -> Section:
        rows = [
            [
                name,
                "OOD" if check.alarm_rate is None else "ID",
                f"{check.samples:,}",
                f"{check.alarms:,}",
                about(check.share),
                f"{about(check.low)} to {about(check.high)}",
            ]
            for name, check in self.checks.items()
        ]
        head = ["data", "which is", "samples", "called OOD", "share", "exact interval"]
        texts: list[Block] = [Text(f"{name}: {check}") for name, check in self.checks.items()]
        tables = [Table("Alarms", head, rows)] if rows else []
        return Section("check", "Checked on fresh data", [*texts, *tables])

    def _scores(self) -> Section:
        """The calibration scores, of each detector."""
        if (calibration := self.facts.calibration) is None:
            return Section("calibration", "Calibration scores")
        several = len(calibration.scores_) > 1
        threshold = calibration.threshold
        words = f"New samples are compared with {calibration.scores_.shape[1]:,} scores"
        words += " of each detector." if several else "."
        if calibration.rule == "per_class":
            words += " Each is compared with those of its own predicted class."
        if threshold is not None:
            words += f" The dashed line is the threshold, {threshold:.6g}."
        figures = []
        for i, row in enumerate(calibration.scores_):
            finite = row[row.isfinite()].double().cpu().numpy()
            title = f"Detector {i + 1}" if several else "Calibration scores"
            text = f"{title}: a histogram of {len(finite):,} scores."
            drawing = histogram(title, text, finite, x="score", limit=threshold)
            figures.append(Figure(f"calibration-{i}", text, drawing))
        return Section("calibration", "Calibration scores", [Text(words), *figures])

    def _rates(self) -> Section:
        """The promises at other alarm rates."""
        if (calibration := self.facts.calibration) is None:
            return Section("rates", "Other alarm rates")
        rows = []
        for rate in sorted({*RATES, *calibration.alarm_rates, calibration.alarm_rate}):
            name = f"{100 * rate:.4g}%" + (" (in use)" if rate == calibration.alarm_rate else "")
            try:
                at = calibration.at(rate)
            except ArgumentError:
                rows.append([name, "", "", "", "", "not for so few samples"])
                continue
            of = expected_of(at, int(at.counts_.argmin()))
            threshold = "of ranks" if at.threshold is None else f"{at.threshold:.6g}"
            interval, mean = f"at most {at_most(of.high)} (97.5%)", f"at most {at_most(of.mean)}"
            if of.low > 0:
                interval, mean = f"{about(of.low)} to {about(of.high)}", about(of.mean)
            certified = "certified, named" if at.named else "certified, by the band"
            holds = "on average" if at.confidence is None else certified
            rank = f"{of.rank:,} of {of.samples:,}"
            rows.append([name, threshold, rank, mean, interval, holds])
        head = ["alarm rate", "threshold", "rank", "true rate in the mean", "for 95% of such sets"]
        words = "Any of these rates can be had without data, and without fitting anew (guard.at). "
        if calibration.confidence is None:
            words += "Each, fixed beforehand, holds on average over calibration sets."
        else:
            words += (
                "Each holds for this very calibration set with "
                f"{100 * calibration.confidence:.6g}% confidence: the rates that were named "
                "beforehand by limits of their own, all others by a band that holds for every rate "
                "at once, and is stricter."
            )
        if calibration.rule == "per_class":
            words += " Rank and true rate are those of the class with the fewest samples."
        table = Table("Limits by alarm rate", [*head, "holds"], rows, name="limits")
        return Section("rates", "Other alarm rates", [Text(words), table])

    def _sensitivity(self) -> Section:
        """The threshold, if the highest calibration scores were outliers."""
        if (calibration := self.facts.calibration) is None:
            return Section("sensitivity", "If calibration data were not clean")
        rows = [
            [
                f"{of.outliers:,} ({percent(of.share, 1)})",
                threshold_of(of),
                about(of.mean),
                at_most(of.high),
            ]
            for of in calibration.sensitivity()
        ]
        words = (
            "OOD samples among the calibration data make the threshold too high. If the highest "
            "scores were outliers: the threshold without them, and the true alarm rate of the "
            "present one."
        )
        head = [
            "outliers",
            "threshold without them",
            "true rate in the mean",
            "97.5% of sets: at most",
        ]
        table = Table("Outliers in the calibration data", head, rows)
        return Section("sensitivity", "If calibration data were not clean", [Text(words), table])

    def _learned(self) -> Section:
        rows = [
            [repr(each), each.summary() if each.fitted else "not fitted"]
            for each in self.facts.detectors
        ]
        read = [
            [
                step,
                of.get("date") or "",
                f"{of['samples']:,}",
                "" if of["accuracy"] is None else f"{of['accuracy']:.2%}",
                "" if "groups" not in of else f"{of['groups']:,}",
            ]
            for step, of in self.facts.read.items()
        ]
        tables = [
            Table("What the detectors learned", ["detector", "learned"], rows),
            Table("What was read", ["to", "on", "samples", "network is right", "groups"], read),
        ]
        return Section("learned", "What it learned", [table for table in tables if table.rows])
