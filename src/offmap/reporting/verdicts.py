"""The sections on a file of verdicts: how many are OOD, which, and whether that is too many."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from math import inf, isfinite
from pathlib import Path
from typing import Any

import msgspec

from offmap._utils.percent import about, at_most, percent
from offmap.errors import ArgumentError, DataError, StoreError
from offmap.guard import Certified, Monitor
from offmap.guard.log_rows import rows_of
from offmap.guard.reasons import without_keys
from offmap.guard.tally import Tally
from offmap.metrics import share_interval
from offmap.reporting import watches
from offmap.reporting.gallery import picture_of_file
from offmap.reporting.rates import CONFIDENCE
from offmap.reporting.sections import Block, Gallery, Sample, Section, Table, Text

Row = dict[str, Any]
_SHOWN = 24


@dataclass
class Summary:
    """The summary of a file of verdicts, taken row by row in bounded memory.

    Args:
        certified: what the guard certifies, where the rows do not say it.

    Attributes:
        tally: counts, in all and by predicted class.
        unread: rows without a verdict.
        torn: lines that are not whole.
        errors: reasons of samples without a score, with how often.
        names: of the classes.
        first: time of the first row, where times are kept.
        last: of the last one.
        monitor: that saw the rows in their order, if it is known what the guard certifies.
    """

    certified: Certified | None = None
    tally: Tally = field(default_factory=Tally)
    unread: int = 0
    torn: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    names: dict[int, str] = field(default_factory=dict)
    first: str = ""
    last: str = ""
    monitor: Monitor | None = None
    _strangest: list[tuple[float, float, int, Row]] = field(default_factory=list)

    def take(self, row: Row | None) -> None:
        """Count one row."""
        if row is None:
            self.torn += 1
        elif "certified" in row:
            self._read_certificate(row["certified"])
        else:
            if row.get("error"):
                self.errors[str(row["error"])] += 1
            if row["is_ood"] is None:
                self.unread += 1
            else:
                self._count(row)

    def _read_certificate(self, record: Any) -> None:
        try:
            certified = msgspec.convert(record, Certified)
        except msgspec.ValidationError as error:
            raise StoreError(f"it is not told what the guard certifies: {error}") from error
        if self.certified is not None and self.certified.guard != certified.guard:
            raise ArgumentError(
                f"these verdicts are of the guard {certified.guard}, and the one given is "
                f"{self.certified.guard}: leave it out, as a log says of which guard it is"
            )
        self._watch_by(certified)

    def _watch_by(self, certified: Certified) -> None:
        """Watch the rows that follow, at the threshold that they were judged by."""
        if self.monitor is None:
            self.monitor = Monitor(certified)
        elif self.monitor.certified is not certified:
            self.monitor.go_on_with(certified)

    def _count(self, row: Row) -> None:
        label, p, is_ood = row["label"], row["p_value"], bool(row["is_ood"])
        if p is None:
            raise DataError("these verdicts have no p-values, by which a report orders them")
        self.tally.add(1, int(is_ood), label, p)
        if label is not None and not is_ood and row.get("answer"):
            self.names[label] = str(row["answer"])
        if time := row.get("time"):
            self.first, self.last = self.first or str(time), str(time)
        if self.certified is not None and "guard" not in row:  # no log, which says its own
            self._watch_by(self.certified)
            self.certified.check_judged(is_ood, label, p)
        if self.monitor is not None:
            self.monitor.see(is_ood, label, p, time=time)
        score = _score(row)
        entry = (-float(p), score, -self.tally.samples, row)  # the number tells equal ones apart
        if len(self._strangest) < _SHOWN:
            heappush(self._strangest, entry)
        else:
            heappushpop(self._strangest, entry)

    @property
    def strangest(self) -> list[tuple[int, Row]]:
        """Numbers and rows with the lowest p-values, the lowest first."""
        return [(-number, row) for *_, number, row in sorted(self._strangest, reverse=True)]


def summary_of(path: Path, certified: Certified | None) -> Summary:
    """The summary of a file of ``offmap score``, or of a log.

    Raises:
        DataNotFoundError, ArgumentError, StoreError: as for a log that is watched.
        DataError: there is no verdict in it.
    """
    summary = Summary(certified)
    for row, _, _ in rows_of(path, {}):
        summary.take(row)
    if not summary.tally.samples:
        raise DataError(f"{path}: there are no verdicts")
    return summary


class Verdicts:
    """The content of a report on verdicts.

    Args:
        summary: of the file.
        path: of it.
        command: that made the report.
        named: whether samples are called by their names, which may be paths.
    """

    def __init__(self, summary: Summary, path: Path, command: str, *, named: bool) -> None:
        self.summary, self.path, self.command, self.named = summary, path, command, named

    @property
    def title(self) -> str:
        """The title of the report."""
        return f"Verdicts: {self.path.name}"

    def sections(self) -> list[Section]:
        """All sections, how many are OOD first."""
        summary, monitor = self.summary, self.summary.monitor
        by_class = summary.tally.by_class
        rates = watches.certified_rates(monitor, by_class)
        tests = 1 if monitor is None else monitor.certified.tests
        strangest = [self._sample(row, number) for number, row in summary.strangest]
        caption = f"The {len(strangest)} samples with the lowest p-values, the strangest first"
        parts = [
            self._verdict(),
            watches.p_values(summary.tally.p_values, tests),
            Section("samples", "Most suspicious", [Gallery(caption, strangest)]),
            watches.classes(by_class, summary.names, rates),
            self._watch(),
            self._notes(),
            self._settings(),
        ]
        return [part for part in parts if part.blocks]

    def _verdict(self) -> Section:
        summary = self.summary
        n, alarms = summary.tally.samples, summary.tally.alarms
        low, high = share_interval(alarms, n, level=CONFIDENCE)
        words = (
            f"{alarms:,} of {n:,} samples are called OOD: {about(alarms / n)} (95% interval "
            f"{about(low)} to {about(high)})."
        )
        if summary.unread:
            words += f" {summary.unread:,} more could not be read, and have no verdict."
        promise = (
            "The verdicts do not say what the guard promises: give the guard beside them, or a "
            "log, which says it."
        )
        if summary.monitor is not None:
            certified, rates = summary.monitor.certified, summary.monitor.rates
            most = at_most(rates.max())
            if len(rates) > 1:
                most = f"{at_most(rates.min())} to {most} by class"
            promise = (
                f"The guard {certified.guard} was asked for an alarm rate of "
                f"{percent(certified.alarm_rate, 2)}. Of ID samples it calls at most {most} OOD, "
                f"with {percent(1 - summary.monitor.delta)} confidence in its calibration set "
                f"({sum(certified.samples):,} samples)."
            )
        return Section("verdict", "Verdict", [Text(words), Text(promise)])

    def _sample(self, row: Row, number: int) -> Sample:
        key = row.get("path") or row.get("input")
        label = row["label"]
        prediction = "" if label is None else self.summary.names.get(label, f"class {label}")
        reason = str(row.get("reason") or row.get("error") or "")
        return Sample(
            set="unknown" if row["is_ood"] else "known",
            name=str(key) if key and self.named else f"sample {number}",
            prediction=prediction,
            p_value=float(row["p_value"]),
            score=float(f"{_score(row):.6g}") if isfinite(_score(row)) else None,
            image=picture_of_file(str(key)) if key else "",
            reason=reason if self.named else without_keys(reason),
        )

    def _watch(self) -> Section:
        """The verdict of the monitor, and what its promise assumes."""
        if (monitor := self.summary.monitor) is None:
            return Section("watch", "Over time")
        section = watches.wealth(monitor)
        words = (
            "The rows are taken in their order, as a stream. The promise is for samples that come "
            "independently of one another: of rows that are sorted, by class or by source, it does "
            "not hold."
        )
        texts = [Text(line) for line in monitor.explain().splitlines()]
        return Section("watch", section.title, [*texts, Text(words), *section.blocks])

    def _notes(self) -> Section:
        texts: list[Block] = []
        if self.summary.torn:
            texts.append(Text(f"{self.summary.torn:,} lines are not whole, and are left out."))
        if self.summary.errors:
            rows = [[why, f"{count:,}"] for why, count in self.summary.errors.most_common(20)]
            texts.append(Table("Samples without a score, by reason", ["reason", "samples"], rows))
        return Section("notes", "Left out, unreadable", texts)

    def _settings(self) -> Section:
        summary = self.summary
        rows = [["verdicts", str(self.path)]]
        rows += [["from", summary.first], ["to", summary.last]] if summary.first else []
        if summary.monitor is not None:
            rows.append(["guard", summary.monitor.certified.guard])
        rows += [["command", self.command]] if self.command else []
        table = Table("How it came about", ["what", "value"], rows)
        return Section("settings", "Settings", [table])


def _score(row: Row) -> float:
    """The score of a row; infinite where it has none."""
    return inf if row.get("score") in (None, "") else float(row["score"])
