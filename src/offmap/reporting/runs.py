"""The sections on the training of a network, from the folder of its run."""

from __future__ import annotations

import csv
import json
from math import isfinite
from pathlib import Path
from typing import Any

from offmap._utils.files import reason_of
from offmap.errors import StoreError
from offmap.reporting.drawings import lines
from offmap.reporting.sections import Block, Figure, Section, Table, Text

RECORD, HISTORY = "run.json", "metrics.csv"
# The data of a recipe, which are not read where a program gives others.
_OF_DATA = ("data", "validation", "holdout", "size", "resize", "channels", "limit")


class Run:
    """The record and the epochs in the folder of a run.

    Args:
        folder: that ``offmap train`` wrote.
        command: that made the report.

    Raises:
        StoreError: they cannot be read.
    """

    def __init__(self, folder: Path, command: str) -> None:
        self.name, self.command = folder.resolve().name, command
        try:
            self.record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            self.recipe: dict[str, Any] = dict(self.record["recipe"])
            history = folder / HISTORY  # none before the first epoch is finished
            text = history.read_text(encoding="utf-8") if history.is_file() else ""
            self.epochs = [
                {"epoch": float(i)} | {name: float(x) for name, x in row.items() if x}
                for i, row in enumerate(csv.DictReader(text.splitlines()), 1)
            ]
        except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
            raise StoreError(
                f"{folder} holds no run that can be read: {reason_of(error)}"
            ) from error

    @property
    def title(self) -> str:
        """The title of the report."""
        return f"Training of {self.recipe.get('network', 'a network')}: {self.name}"

    def sections(self) -> list[Section]:
        """All sections, the verdict first."""
        parts = [self._verdict(), self._curves(), self._settings()]
        return [part for part in parts if part.blocks]

    def _verdict(self) -> Section:
        of = self.recipe.get("epochs", "?")
        if not self.epochs:
            return Section("verdict", "Verdict", [Text(f"None of {of} epochs is finished.")])
        last, done = self.epochs[-1], len(self.epochs)
        seconds = sum(row.get("seconds", 0.0) for row in self.epochs)
        count = "All" if done == of else f"{done} of"
        words = f"{count} {of} epochs are done, in {seconds:,.0f} s."
        if "validation_accuracy" in last:
            words += (
                f" The network is right on {last['validation_accuracy']:.2%} of the validation data"
            )
            words += f", and on {last['train_accuracy']:.2%} of" if "train_accuracy" in last else ""
            words += " what it was trained on, as augmented." if "train_accuracy" in last else "."
        return Section("verdict", "Verdict", [Text(words)])

    def _curves(self) -> Section:
        blocks: list[Block] = []
        for name in ("loss", "accuracy"):
            of: dict[str, tuple[list[float], list[float]]] = {}
            ends = []
            for part in ("train", "validation"):
                column = f"{part}_{name}"
                rows = self.epochs if all(column in row for row in self.epochs) else []
                # A validation loss may be infinite: no drawing has a place for that.
                points = [(row["epoch"], row[column]) for row in rows if isfinite(row[column])]
                if points:
                    of[part] = [x for x, _ in points], [y for _, y in points]
                    ends.append(f"{part} {rows[-1][column]:.4g}")
            if of:
                text = f"{name.capitalize()} by epoch; at the end: {'; '.join(ends)}."
                drawing = lines(name.capitalize(), text, of, x="epoch", y=name)
                blocks.append(Figure(name, text, drawing))
        return Section("curves", "Curves", blocks)

    def _settings(self) -> Section:
        fields = _OF_DATA if self.record.get("given") else ()
        recipe = [
            [name, _plain(value)]
            for name, value in self.recipe.items()
            if value is not None and name not in fields
        ]
        more = {k: v for k, v in self.record.items() if k not in ("recipe", "files", "data")}
        rows = [[name, _plain(value)] for name, value in more.items() if value not in (None, "")]
        rows += [["this report", self.command]] if self.command else []
        parts = [
            [
                name,
                _plain(of.get("name")),
                f"{of.get('images', 0):,}",
                str(of.get("fingerprint", ""))[:16],
            ]
            for name, of in dict(self.record.get("data", {})).items()
            if isinstance(of, dict)
        ]
        tables = [
            Table("Recipe", ["setting", "value"], recipe),
            Table("Data", ["part", "set", "images", "fingerprint"], parts),
            Table("How it was run", ["what", "value"], rows),
        ]
        return Section("settings", "Settings", [table for table in tables if table.rows])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
