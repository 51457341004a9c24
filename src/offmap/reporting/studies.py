"""The sections on a study: its networks side by side, and its tables as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from offmap._utils.files import reason_of
from offmap._utils.markup import places
from offmap._utils.table import alike
from offmap.errors import StoreError
from offmap.evaluation import Results
from offmap.reporting.sections import MARKS, Block, Listing, Section, Table, Text

_TEXT = "report.txt"


def results_of(folder: Path) -> dict[str, Results]:
    """The evaluations of a study's networks, each of which has a folder of its own."""
    return {p.parent.name: Results.load(p.parent) for p in sorted(folder.glob("*/results.json"))}


class Study:
    """The content of a report on a study.

    Args:
        networks: their evaluations, which need not share detectors.
        folder: of the study, with its tables as text.
        command: that made the report.
    """

    def __init__(self, networks: Mapping[str, Results], folder: Path, command: str) -> None:
        self.networks, self.folder, self.command = networks, folder, command

    @property
    def title(self) -> str:
        """The title of the report."""
        return f"Study {self.folder.resolve().name}: {', '.join(self.networks)}"

    def sections(self) -> list[Section]:
        """All sections, the best AUROC of each network first.

        Raises:
            StoreError: the tables as text cannot be read.
        """
        path = self.folder / _TEXT
        try:
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read: {reason_of(error)}") from error
        parts = [
            self._verdict(),
            self._table(),
            *([Section("tables", "All tables", [Listing("As text", text)])] if text else []),
            notes(self.networks),
            settings(self.networks, self.command),
        ]
        return [part for part in parts if part.blocks]

    def _verdict(self) -> Section:
        rows = []
        for name, results in self.networks.items():
            right, best = results.accuracy, max(results.detectors, key=results.mean, default=None)
            share = "not known" if right is None else f"{right[0] / right[1]:.2%}"
            mean = "" if best is None else f"{100 * results.mean(best):.2f}"
            rows.append([name, share, best or "all were left out", mean])
        words = (
            "What each network reaches with its best detector by the mean AUROC over its OOD sets. "
            "It was picked on these sets; whether differences are beyond chance stands in the "
            "tables below."
        )
        head = ["network", "accuracy", "its best detector", "mean AUROC in %"]
        return Section("verdict", "Verdict", [Text(words), Table("Each network", head, rows)])

    def _table(self) -> Section:
        """Every detector of every network, on the sets that all networks have."""
        by_network = [[s for of in r.groups.values() for s in of] for r in self.networks.values()]
        sets = [s for s in by_network[0] if all(s in names for names in by_network)]
        if not sets:
            return Section("detectors", "Side by side")
        cells: dict[str, list[float]] = {}
        for name, results in self.networks.items():
            for detector in results.detectors:
                values = [100 * results.get(detector, s) for s in sets]
                cells[f"{name} {detector}"] = [*values, sum(values) / len(values)]
        marks = places(cells, low=False, digits=2)
        rows = [
            [name, *(f"{x:.2f}{MARKS[p]}" for x, p in zip(row, marks[name], strict=True))]
            for name, row in sorted(cells.items(), key=lambda item: -item[1][-1])
        ]
        words = "★ best and ☆ second of a column, as shown."
        head = ["network, detector", *sets, "mean"]
        table = Table("AUROC in %, higher is better", head, rows, name="systems")
        return Section("detectors", "Side by side", [Text(words), table])


def notes(networks: Mapping[str, Results], more: tuple[str, ...] = ()) -> Section:
    """What was left out or skipped in each evaluation."""
    lines = [*more, *(f"{name}: {line}" for name, of in networks.items() for line in of.notes())]
    lines = lines or ["Nothing was left out, skipped or warned of."]
    return Section("notes", "Left out, skipped, warned of", [Text(line) for line in lines])


def settings(networks: Mapping[str, Results], command: str) -> Section:
    """The commands of the evaluations, and their data."""
    rows = [["this report", command]] if command else []
    commands = {name: str(of.settings.get("command") or "") for name, of in networks.items()}
    rows += [[names, text] for names, text in alike(commands) if text]
    blocks: list[Block] = [Table("Commands", ["of", "command"], rows)] if rows else []
    first = next(iter(networks.values()))
    data = [[s.name, s.role, f"{s.n:,}", s.source] for s in first.sets]
    blocks.append(Table("Data of the first network", ["set", "part", "samples", "source"], data))
    return Section("settings", "Settings", blocks)
