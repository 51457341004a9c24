"""The parts of a report; a terminal and a page show the same sections."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

# Behind a figure that is neither the best nor the second of its column, the best, the second.
MARKS = ("", " ★", " ☆")


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Table:
    """Rows under headings; the first cell of a row is its name.

    Args:
        caption: what it shows.
        columns: headings.
        rows: of texts.
        above: a group over each heading but the first.
        titles: more of a cell, such as its interval; rows as those of ``rows``.
        name: by which the page's script finds it.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    above: Sequence[str] = ()
    titles: Sequence[Sequence[str]] = ()
    name: str = ""

    def in_words(self, width: int) -> str:
        """The table for a terminal, no line of it wider than that."""
        rows = [list(self.columns), *map(list, self.rows)]
        sizes = [max(len(row[i]) for row in rows) for i in range(len(self.columns))]
        lines = [self.caption]
        if sum(sizes) + 2 * len(sizes) <= width:
            for row in rows:
                parts = (f"{x:<{size}}" for x, size in zip(row, sizes, strict=True))
                lines.append("  ".join(parts).rstrip())
            return "\n".join(lines)
        # What does not fit goes below its row's name, so that no line wraps.
        for name, *cells in self.rows:
            pairs = zip(self.columns[1:], cells, strict=True)
            words = "; ".join(f"{head} {cell}" for head, cell in pairs if cell)
            lines.append(textwrap.fill(f"{name}: {words}", width, subsequent_indent="  "))
        return "\n".join(lines)


@dataclass(frozen=True)
class Figure:
    """A drawing, or something to move, that the page's script makes from the report's data.

    Args:
        name: which.
        text: what it shows, for those who do not see it.
        drawing: what it is made of, see :mod:`offmap.reporting.drawings`; of an evaluation it lies
            in the report's data.
    """

    kind: ClassVar[str] = "figure"
    name: str
    text: str
    drawing: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Sample:
    """One sample of a gallery.

    Args:
        set: it is of.
        name: its file or row.
        prediction: of the network.
        p_value: of its score, if there is calibration data.
        score: of the recommended detector, or of the guard; none where it is not finite.
        image: a ``data:`` URI, or empty.
        reason: why it is judged so, or empty.
    """

    set: str
    name: str
    prediction: str
    p_value: float | None
    score: float | None
    image: str = ""
    reason: str = ""

    @property
    def lines(self) -> list[str]:
        """Name, prediction, p-value and reason, as far as there are any."""
        in_reason = self.reason.startswith("said ")
        of = [f"taken for {self.prediction}"] if self.prediction and not in_reason else []
        p = [] if self.p_value is None else [f"p = {self.p_value:.3g}"]
        return [self.name, *of, *p, *([self.reason] if self.reason else [])]

    @property
    def caption(self) -> str:
        """The sample in one line."""
        return f"{self.set}, {'; '.join(self.lines)}"


@dataclass(frozen=True)
class Gallery:
    """Samples worth looking at."""

    kind: ClassVar[str] = "gallery"
    caption: str
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Listing:
    """Lines as they are, such as a table that was made for a terminal."""

    kind: ClassVar[str] = "listing"
    caption: str
    text: str


Block = Text | Table | Figure | Gallery | Listing


@dataclass(frozen=True)
class Section:
    """A heading with the blocks below it."""

    name: str
    title: str
    blocks: list[Block] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Plain values."""
        blocks = [{"kind": block.kind, **asdict(block)} for block in self.blocks]
        return {"name": self.name, "title": self.title, "blocks": blocks}


def in_words(section: Section, *, width: int = 100) -> str:
    """A section for a terminal; drawings are left to the page."""
    parts = [f"{section.title}\n{'=' * len(section.title)}"]
    for block in section.blocks:
        if isinstance(block, Text):
            parts.append(textwrap.fill(block.text, width))
        elif isinstance(block, Table):
            parts.append(block.in_words(width))
        elif isinstance(block, Gallery):
            lines = [f"  {sample.caption}" for sample in block.samples]
            parts.append("\n".join([textwrap.fill(block.caption, width), *lines]))
        elif isinstance(block, Listing):
            parts.append(f"{block.caption}\n\n{block.text}")
    return "\n\n".join(parts)
