"""One metric as a table: detectors down, OOD sets and their means across."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from offmap._utils.markup import Texts, latex, markdown, places
from offmap._utils.table import render, short
from offmap.evaluation.metric import Metric


@dataclass(frozen=True)
class Grid:
    """The numbers of a table.

    Args:
        metric: what they are.
        columns: names of the OOD sets, then of the groups if there are several, then "all".
        above: the group of each set, and "mean" over the means.
        cells: numbers by detector.
        deviations: their standard deviations over several networks, if there are several.
    """

    metric: Metric
    columns: list[str]
    above: list[str]
    cells: dict[str, list[float]]
    deviations: dict[str, list[float]] | None = None

    @classmethod
    def of(
        cls,
        metric: Metric,
        groups: Mapping[str, Sequence[str]],
        detectors: Sequence[str],
        cell: Callable[[str, Sequence[str]], float],
    ) -> Grid:
        """A grid from what gives the mean of a detector over some sets."""
        columns = list(columns_of(groups))
        return cls(
            metric,
            [name for _, name, _ in columns],
            [above for above, _, _ in columns],
            {d: [cell(d, sets) for _, _, sets in columns] for d in detectors},
        )

    @property
    def low(self) -> bool:
        """Whether the lowest is the best."""
        return self.metric.better == "low"

    @property
    def digits(self) -> int:
        """Digits behind the point."""
        return 2 if self.metric.percent else 4

    def notes(self) -> dict[str, list[str]] | None:
        """Deviations behind each number."""
        if self.deviations is None:
            return None
        return {
            d: [f" ± {x * self.metric.scale:.{self.digits}f}" for x in row]
            for d, row in self.deviations.items()
        }

    def texts(self) -> Texts:
        """The cells as they are shown."""
        notes = self.notes()
        return {
            d: [
                f"{value * self.metric.scale:.{self.digits}f}" + (notes[d][i] if notes else "")
                for i, value in enumerate(row)
            ]
            for d, row in self.cells.items()
        }

    def places(self) -> Mapping[str, Sequence[int]]:
        """Which cells are the best (1) and the second (2) of their column, as they are shown."""
        if not self.metric.better:
            return {d: [0] * len(row) for d, row in self.cells.items()}
        scaled = {d: [x * self.metric.scale for x in row] for d, row in self.cells.items()}
        return places(scaled, low=self.low, digits=self.digits)

    def render(self) -> str:
        """The table for a terminal."""
        return render(
            self.cells,
            self.columns,
            above=self.above,
            low=self.low,
            scale=self.metric.scale,
            star=bool(self.metric.better),
            notes=self.notes(),
            digits=self.digits,
        )


def columns_of(groups: Mapping[str, Sequence[str]]) -> list[tuple[str, str, list[str]]]:
    """The heading above each column, its name, and the OOD sets it is the mean of."""
    single = [(group, name, [name]) for group, names in groups.items() for name in names]
    means = [("mean", group, list(names)) for group, names in groups.items()]
    every = ("mean", "all", [name for names in groups.values() for name in names])
    return [*single, *(means if len(groups) > 1 else []), every]


class Tabular(ABC):
    """Results with a table of each metric, for a terminal and for documents."""

    @abstractmethod
    def grid(self, metric: str = "auroc") -> Grid:
        """The numbers of a table.

        Args:
            metric: a field of a row, or what others call it; ``fpr95`` and ``aupr`` have two
                readings and are refused.

        Raises:
            UnknownNameError: there is no such metric, it has two readings, or it is not known here.
        """

    @abstractmethod
    def table(self, metric: str = "auroc") -> str:
        """A table for the terminal; arguments and errors as :meth:`grid`."""

    def to_markdown(self, metric: str = "auroc") -> str:
        """A table in GitHub's Markdown, best bold, second underlined; arguments as :meth:`grid`."""
        grid = self.grid(metric)
        return markdown(
            grid.texts(),
            short(grid.columns),
            grid.places(),
            corner=grid.metric.heading,
            above=grid.above,
        )

    def to_latex(self, metric: str = "auroc") -> str:
        """A table for the package booktabs, best bold, second underlined, as :meth:`grid`."""
        grid = self.grid(metric)
        return latex(
            grid.texts(),
            short(grid.columns),
            grid.places(),
            corner="detector",
            above=grid.above,
            caption=grid.metric.heading,
        )
