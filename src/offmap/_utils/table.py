"""Tables of numbers and of words, no wider than the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise, zip_longest

_NO_TERMINAL = 100
_LONG_NAME = 40  # of a row: longer ones take several lines
_LONG_PATH = 20  # of a heading: longer ones are shown by their ends
_INDENT = 4  # of the lines that continue a long one


def render(
    cells: Mapping[str, Sequence[float]],
    columns: Sequence[str],
    *,
    above: Sequence[str] = (),
    low: bool = False,
    scale: float = 1.0,
    star: bool = True,
    notes: Mapping[str, Sequence[str]] | None = None,
    corner: str = "detector",
    digits: int = 2,
    width: int | None = None,
) -> str:
    """Rows of numbers under their headings, the best of each column, as shown, starred.

    Columns beyond the width follow in blocks below, each with the names of the rows.

    Args:
        cells: numbers by row name.
        columns: headings; long paths are shown by their ends.
        above: a group name over each column; shown where it changes.
        low: whether the lowest is the best.
        scale: factor of the numbers shown.
        star: whether to mark the best.
        notes: text after each number, by row name.
        corner: heading of the row names.
        digits: number of decimals.
        width: of a line at most; by default that of the terminal, 100 without one.
    """
    figures = {name: [f"{x * scale:.{digits}f}" for x in row] for name, row in cells.items()}
    # By the figures as shown, so that equal ones are all starred.
    columns_shown = zip(*figures.values(), strict=True)
    tops = [(min if low else max)(map(float, column)) for column in columns_shown]
    texts = {
        name: [
            f"{text}{'*' if star and float(text) == top else ' ' if star else ''}"
            + (notes[name][i] if notes else "")
            for i, (text, top) in enumerate(zip(row, tops, strict=True))
        ]
        for name, row in figures.items()
    }
    heads = [f"{head} " if star else head for head in short(columns)]
    widths = [
        max(
            len(head) + (not star),
            *map(len, above[i : i + 1]),
            *(len(row[i]) for row in texts.values()),
        )
        for i, head in enumerate(heads)
    ]
    return _in_blocks(texts, heads, above, widths, corner, width or terminal_width())


def _in_blocks(
    texts: Mapping[str, Sequence[str]],
    heads: Sequence[str],
    above: Sequence[str],
    widths: Sequence[int],
    corner: str,
    room: int,
) -> str:
    """Blocks of columns that fit, two spaces before each; one that is too wide is alone."""
    # Names in one line each where all fit beside their numbers, or else in several.
    one_line = max(map(len, texts)) <= room - sum(size + 2 for size in widths)
    rows = {n: [n] if one_line else textwrap.wrap(n, _LONG_NAME) or [""] for n in texts}
    indent = max(map(len, [corner, *(line for lines in rows.values() for line in lines)]))
    starts, total = [0], 0
    for i, width in enumerate(widths):
        if i > starts[-1] and total + width + 2 > room - indent:
            starts.append(i)
            total = 0
        total += width + 2
    blocks = []
    for start, stop in pairwise([*starts, len(widths)]):
        block, sizes, lines = slice(start, stop), widths[start:stop], []
        if above:  # the groups, each where a run of it starts
            names = [g if i == start or above[i - 1] != g else "" for i, g in enumerate(above)]
            lines.append(_line("", names[block], indent, sizes))
        lines.append(_line(corner, heads[block], indent, sizes))
        for name, row in texts.items():
            *begun, ending = rows[name]
            lines += [*begun, _line(ending, row[block], indent, sizes)]
        blocks.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(blocks)


def terminal_width() -> int:
    """Columns of the terminal, 100 where there is none."""
    return shutil.get_terminal_size((_NO_TERMINAL, 24)).columns


def filled(text: str, width: int | None = None) -> str:
    r"""A text in lines no wider than the terminal; continued lines are indented.

    >>> filled("Noise: gaussian, uniform", 18)
    'Noise: gaussian,\n    uniform'
    """
    room = max(width or terminal_width(), _INDENT + 1)
    lines = (
        textwrap.wrap(line, room, subsequent_indent=" " * _INDENT, break_on_hyphens=False)
        for line in text.splitlines()
    )
    return "\n".join("\n".join(parts) for parts in lines)


def of_words(
    rows: Sequence[Sequence[str]],
    headings: Sequence[str],
    *,
    indent: str = "",
    width: int | None = None,
) -> str:
    """Rows of words under their headings; cells too wide for their column take several lines.

    Args:
        rows: cells.
        headings: of the columns.
        indent: before each line.
        width: of a line at most; by default that of the terminal.

    >>> print(of_words([["knn, dknn", "2022"]], ["name", "year"], width=10))
    name  year
    knn,  2022
    dknn
    """
    table = [headings, *rows]
    room = (width or terminal_width()) - len(indent) - 2 * (len(headings) - 1)
    columns = list(zip(*table, strict=True))
    widths = [max(map(len, column)) for column in columns]
    longest = [max(len(w) for cell in column for w in cell.split() or [""]) for column in columns]
    # The widest column shrinks first, and words are broken last.
    for least in (longest, [1] * len(columns)):
        while sum(widths) > room:
            shrinkable = [i for i, size in enumerate(widths) if size > least[i]]
            if not shrinkable:
                break
            widths[max(shrinkable, key=widths.__getitem__)] -= 1
    lines = []
    for row in table:
        cells = [
            textwrap.wrap(cell, size, break_on_hyphens=False)
            for cell, size in zip(row, widths, strict=True)
        ]
        for parts in zip_longest(*cells, fillvalue=""):
            words = (f"{part:<{size}}" for part, size in zip(parts, widths, strict=True))
            lines.append((indent + "  ".join(words)).rstrip())
    return "\n".join(lines)


def alike(texts: Mapping[str, str]) -> list[list[str]]:
    """Rows of names and their text; names with the same text share a row."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(name)
    return [[", ".join(group), text] for text, group in names.items()]


def short(names: Sequence[str]) -> list[str]:
    """Names for headings: long paths by their end, as much as distinguishes them.

    >>> short(["cifar10", "/data/photos/cameras/a/test", "/data/photos/cameras/b/test"])
    ['cifar10', 'a/test', 'b/test']
    """
    shown = []
    for name in names:
        parts = name.rstrip("/").split("/")
        ends = ["/".join(parts[start:]) for start in range(len(parts) - 1, 0, -1)]
        others = [f"/{other.rstrip('/')}" for other in names if other != name]
        distinct = [e for e in ends if not any(other.endswith(f"/{e}") for other in others)]
        shown.append(name if len(name) <= _LONG_PATH else next(iter(distinct), name))
    return shown


def _line(name: str, texts: Sequence[str], indent: int, widths: Sequence[int]) -> str:
    return f"{name:<{indent}}  " + "  ".join(
        f"{t:>{w}}" for t, w in zip(texts, widths, strict=True)
    )
