"""A figure's panels, words, colours and keys, and its file."""

from __future__ import annotations

import textwrap
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text

from offmap._utils.files import as_text, atomic
from offmap.errors import ArgumentError

ID, OOD = "#4477aa", "#cc6677"
TITLE, LABEL, SMALL = 9, 8, 7  # points, in every figure; small are ticks and keys
# Distinct to the colour-blind, too (P. Tol's bright scheme, with a darker yellow).
COLOURS = (
    *("#4477aa", "#ee6677", "#228833", "#aa3377"),
    *("#66ccee", "#b8a000", "#ee7733", "#000000"),
)
_DASHES, _MARKERS = ("-", "--", ":", "-."), "o^sD"
_LETTERS = 34  # of a name in a key


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure; the format follows the suffix.

    Raises:
        ArgumentError: there is no such format.
    """
    check_suffix(path)
    # Every text has to be one that can be drawn: file names may hold dollars, and bytes that are
    # no text.
    for axis in (axis for each in figure.axes for axis in (each.xaxis, each.yaxis)):
        names = [label.get_text() for label in axis.get_ticklabels()]
        if names != (plain := [*map(as_text, names)]):
            axis.set_ticks(axis.get_ticklocs(), plain)
    parser = MathTextParser("agg")
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(as_text(text.get_text()))
        try:
            for line in filter(is_math_text, text.get_text().splitlines()):
                parser.parse(line)
        except ValueError:  # dollars around no formula
            text.set_parse_math(False)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)


def check_suffix(path: str | Path) -> None:
    """Refuse, before any work, a path that no figure can be written to.

    Raises:
        ArgumentError: its suffix is that of no format.
    """
    formats = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix.lower().removeprefix(".") not in formats:
        raise ArgumentError(f"{path}: a figure is a file such as {Path(path).stem}.png")


def panels(count: int, *, side: float = 2.8, columns: int = 4) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` axes, and nothing in the remaining places."""
    columns = min(columns, max(count, 1))
    rows = max(ceil(count / columns), 1)
    figure = Figure(figsize=(side * columns, side * rows + 0.4), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(rows, columns)).flat)
    for axis in axes[count:]:
        axis.axis("off")
    return figure, axes[:count]


def words(axis: Axes, title: str, x: str = "", y: str = "") -> None:
    """Title and labels of a panel, in the sizes of all figures."""
    axis.set_title(title, fontsize=TITLE)
    axis.set_xlabel(x, fontsize=LABEL)
    axis.set_ylabel(y, fontsize=LABEL)
    axis.tick_params(labelsize=SMALL)


def line(i: int) -> dict[str, Any]:
    """Colour and dashes of the i-th line: 32 can be told apart."""
    return {"color": COLOURS[i % len(COLOURS)], "ls": _DASHES[i // len(COLOURS) % len(_DASHES)]}


def look_of_points(i: int) -> dict[str, Any]:
    """Colour and marker of the i-th group of points: 32 can be told apart."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": _MARKERS[i // len(COLOURS) % 4]}


def key(figure: Figure, axes: list[Axes], **look: Any) -> None:
    """One key of what the panels show, below them: it hides nothing."""
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    names = _distinct(list(entries))
    letters = max((len(line) for name in names for line in name.splitlines()), default=0)
    width = letters * 0.055 + 0.55  # inches of an entry
    columns = min(max(int(figure.get_figwidth() / width), 1), max(len(entries), 1))
    figure.legend(
        list(entries.values()), names, loc="outside lower center", ncols=columns,
        fontsize=SMALL, frameon=False, **look,
    )  # fmt: skip


def own_key(axis: Axes) -> None:
    """The key of one panel, below it: for panels of other lines than their neighbours."""
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(
        handles, _distinct(labels), loc="upper center", ncols=2,
        bbox_to_anchor=(0.5, -0.2), fontsize=SMALL, frameon=False,
    )  # fmt: skip


def _distinct(names: list[str]) -> list[str]:
    """Long names without their middles; where these are alike, whole ones on several lines."""
    shortened = list(map(short, names))
    return [
        name if shortened.count(name) == 1 else "\n".join(textwrap.wrap(whole, _LETTERS))
        for name, whole in zip(shortened, names, strict=True)
    ]


def short(name: str) -> str:
    """A long name without its middle.

    >>> short("ReAct(Energy(temperature=1.0), quantile=0.95)")
    'ReAct(Energy(tem…, quantile=0.95)'
    """
    if len(name) <= _LETTERS:
        return name
    half = (_LETTERS - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
