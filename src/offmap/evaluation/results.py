"""The results of an evaluation: rows, per-sample scores, and the settings."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Int32

from offmap._utils import records
from offmap._utils.files import atomic, reason_of, write_json
from offmap.errors import MissingExtraError, StoreError, UnknownNameError
from offmap.evaluation._words import heading, notes
from offmap.evaluation.by_sample import BY_SAMPLE, as_table, from_table, read_table, write_table
from offmap.evaluation.metric import METRICS, metric_of
from offmap.evaluation.rows import Row
from offmap.evaluation.shift import Shift, shifts_in
from offmap.evaluation.tables import Grid, Tabular
from offmap.evaluation.whole import check_whole
from offmap.metrics import Detection, delong_interval_of_mean

Scores = Mapping[str, Mapping[str, Float[np.ndarray, " n"]]]
Classes = Mapping[str, Int32[np.ndarray, " n"]]

_SCORES = "scores"  # the label of a record's one file


@dataclass(frozen=True, kw_only=True)
class SetInfo:
    """One data set of an evaluation.

    Args:
        name: as the caller named it.
        role: "train", "id", "calibration", "shift" (ID that has shifted) or "ood".
        group: of an OOD set.
        n: samples read; 0 for training data that no detector needed.
        right: samples classified rightly, where there are labels of the known classes.
        members: the same of each member of an ensemble.
        skipped: samples that could not be read, ``[where, why]`` each.
        left_out: files beside the samples that are none, likewise.
        source: what the set calls itself.
        transform: how its images were prepared, if known.
        fingerprint: hash of its images, if known.
        half_of: what it is a half of, where another set holds the other half.
    """

    name: str
    role: str
    group: str = ""
    n: int = 0
    right: int | None = None
    members: list[int] = field(default_factory=list)
    skipped: list[list[str]] = field(default_factory=list)
    left_out: list[list[str]] = field(default_factory=list)
    source: str = ""
    transform: str = ""
    fingerprint: str | None = None
    half_of: str = ""


@dataclass(frozen=True)
class Results(Tabular):
    """Rows of metrics, the scores they came from, and the settings.

    Args:
        rows: one for each detector and OOD set, detectors in the order given.
        scores: OOD scores by detector and set, in data order; the evaluated ID set is ``"id"``, the
            calibration set ``"calibration"``.
        sets: the data.
        settings: network, precision, seeds, versions, seconds.
        summaries: what each detector learned, in words.
        left_out: why detectors are missing, by name.
        predictions: the network's classes by set, in data order.
        labels: the true ones, of sets that have labels of the known classes.
        keys: what tells each sample from others, its path or row, by set.
    """

    rows: list[Row]
    scores: Scores = field(compare=False)
    sets: list[SetInfo]
    settings: dict[str, Any] = field(default_factory=dict)
    summaries: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    predictions: Classes = field(default_factory=dict, compare=False)
    labels: Classes = field(default_factory=dict, compare=False)
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict, compare=False)

    @property
    def detectors(self) -> list[str]:
        """Names of the detectors, in order."""
        return list(dict.fromkeys(row.detector for row in self.rows))

    @property
    def groups(self) -> dict[str, list[str]]:
        """Names of the OOD sets by group, in order."""
        groups: dict[str, list[str]] = {}
        for row in self.rows:
            if row.set not in groups.setdefault(row.group, []):
                groups[row.group].append(row.set)
        return groups

    def get(self, detector: str, set: str, metric: str = "auroc") -> float:
        """One number; the metric may be named as others call it, see :func:`metric_of`.

        Raises:
            UnknownNameError: there is no such row or metric, or the metric has two readings.
        """
        name = metric_of(metric).name
        for row in self.rows:
            if (row.detector, row.set) == (detector, set):
                if (value := getattr(row, name)) is None:
                    raise UnknownNameError(
                        f"{name!r} is not known here: thresholds need calibration data, and "
                        "columns of right predictions need labels"
                    )
                return float(value)
        raise UnknownNameError(
            f"no {name!r} of {detector!r} on {set!r}; detectors: {', '.join(self.detectors)}; "
            f"sets: {', '.join(s for group in self.groups.values() for s in group)}; "
            f"metrics: {', '.join(METRICS)}"
        )

    def mean(self, detector: str, metric: str = "auroc", *, group: str | None = None) -> float:
        """The mean of a metric over the OOD sets of one group, or over all.

        An end of an interval is that of the interval of the mean AUROC, which is narrower than the
        mean of the sets' own ends.

        Raises:
            UnknownNameError: there is no such group, row or metric.
            ArgumentError: an end of an interval, where the rows are of some of the samples.
        """
        groups = self.groups
        if group is not None and group not in groups:
            raise UnknownNameError(f"no group {group!r} among {', '.join(groups)}")
        every = [s for names in groups.values() for s in names]
        sets = every if group is None else groups[group]
        return self._over(detector, sets, metric)

    def _over(self, detector: str, sets: Sequence[str], metric: str) -> float:
        """The mean over sets, which share their ID samples."""
        name = metric_of(metric).name
        if len(sets) == 1 or name not in ("auroc_low", "auroc_high"):
            return float(np.mean([self.get(detector, each, name) for each in sets]))
        check_whole(self)
        scores = self.scores[detector]
        interval = delong_interval_of_mean(scores["id"], [scores[each] for each in sets])
        return interval.low if name == "auroc_low" else interval.high

    @property
    def accuracy(self) -> tuple[int, int] | None:
        """Correct predictions and samples of the evaluated ID set, with its held-out part."""
        of = next(s for s in self.sets if s.role == "id")
        halves = [s for s in self.sets if s.role == "calibration" and s.half_of == of.half_of != ""]
        sets = [s for s in (of, *halves) if s.right is not None]
        return (sum(s.right or 0 for s in sets), sum(s.n for s in sets)) if sets else None

    @property
    def shifts(self) -> list[Shift]:
        """Each detector on each shifted ID set, and on all of them; none without such sets.

        Raises:
            ArgumentError: the rows are of some of the samples, as of ``at_ratio``.
        """
        if not (sets := [info.name for info in self.sets if info.role == "shift"]):
            return []
        check_whole(self)
        thresholds = {row.detector: row.threshold for row in self.rows}
        ood = list(dict.fromkeys(row.set for row in self.rows))
        return shifts_in(sets, {d: self.scores[d] for d in self.detectors}, ood, thresholds)

    def only(self, detectors: Sequence[str]) -> Self:
        """The same evaluation with some of its detectors, in the order given.

        Raises:
            UnknownNameError: there is no such detector.
        """
        if missing := [name for name in detectors if name not in self.detectors]:
            raise UnknownNameError(f"no {missing[0]!r} among {', '.join(self.detectors)}")
        rows = [row for name in detectors for row in self.rows if row.detector == name]
        return replace(self, rows=rows)

    def grid(self, metric: str = "auroc") -> Grid:
        return Grid.of(
            metric_of(metric),
            self.groups,
            self.detectors,
            lambda detector, sets: self._over(detector, sets, metric),
        )

    def table(self, metric: str = "auroc") -> str:
        """A table for the terminal, by OOD set, group and overall; * marks the best of a column."""
        grid, lines = self.grid(metric), self.notes()
        footing = ["", *lines] if lines else []
        return "\n".join([*heading(self, grid), "", grid.render(), *footing])

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame: one for each detector and OOD set, a column a number.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError("pandas", "pandas") from error
        return pd.DataFrame([asdict(row) for row in self.rows], columns=_row_names())

    def notes(self) -> list[str]:
        """What was left out or skipped, a line each."""
        return notes(self.sets, self.left_out)

    def to_json(self, path: str | Path) -> None:
        """Write everything but the per-sample scores."""
        write_json(path, self._record({}))

    def _record(self, files: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
        content = {name: x for name, x in vars(self).items() if name not in BY_SAMPLE}
        rows, sets = map(asdict, self.rows), map(asdict, self.sets)
        stamp = records.stamp("results")
        return stamp | content | {"rows": [*rows], "sets": [*sets], "files": files}

    def to_csv(self, path: str | Path) -> None:
        """Write the rows."""
        with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _row_names())
            writer.writeheader()
            writer.writerows(asdict(row) for row in self.rows)

    def save(self, folder: str | Path) -> None:
        """Write ``results.json``, ``results.csv`` and ``scores.parquet`` into a folder."""
        names = ("results.json", "results.csv", "scores.parquet")
        with ExitStack() as stack:
            # They take their places once all are written, so that a full disk leaves the old ones.
            # The record is last: its hash tells whether an interruption came between two files.
            files = [stack.enter_context(atomic(Path(folder) / name)) for name in names]
            sha256 = write_table(as_table(**{n: getattr(self, n) for n in BY_SAMPLE}), files[2])
            self.to_csv(files[1])
            scores = {"name": names[2], "sha256": sha256}
            write_json(files[0], self._record({_SCORES: scores}))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read back what :meth:`save` wrote.

        Raises:
            StoreError: a file is missing, damaged, of another version, or not of the same results.
        """
        folder = Path(folder)
        path = folder / "results.json"
        stored = records.read_record(path, "results", _Stored, made_by="offmap bench")
        if _SCORES not in stored.files:
            raise StoreError(f"{path} is of rows alone: give the folder that `save` wrote")
        scores = stored.files[_SCORES]
        try:
            return cls(
                rows=[_from_record(Row, row) for row in stored.rows],
                sets=[_from_record(SetInfo, info) for info in stored.sets],
                settings=stored.settings,
                summaries=stored.summaries,
                left_out=stored.left_out,
                **from_table(read_table(folder / scores.name, scores.sha256)),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"{folder} holds no results that can be read: {reason_of(error)}"
            ) from error


class _Stored(records.Record, frozen=True, kw_only=True):
    """What ``results.json`` holds; rows and sets keep the fields of the day they were written."""

    rows: list[dict[str, Any]]
    sets: list[dict[str, Any]]
    settings: dict[str, Any]
    summaries: dict[str, str]
    left_out: dict[str, str]


def _row_names() -> list[str]:
    """Fields of a row, those that name it first."""
    names = ["detector", "set", "group", *(f.name for f in fields(Detection))]
    return names + [f.name for f in fields(Row) if f.name not in names]


def _from_record(kind: type[Any], row: Mapping[str, Any]) -> Any:
    """A row of a file, whose metrics may be fewer or more than today's."""
    names = [f.name for f in fields(kind)]
    missing = {f.name: None for f in fields(Detection)} if kind is Row else {}
    return kind(**(missing | {name: row[name] for name in names if name in row}))
