"""Tables of numbers for the terminal, no wider than it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence

_NO_TERMINAL = 100
_LONG_NAME = 40  # of a row: longer ones take several lines
_LONG_PATH = 20  # of a heading: longer ones are shown by their ends


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
    """Rows of numbers under their headings, the best of each column starred.

    Columns for which there is no room follow in blocks below, each with the names of the rows.

    Args:
        cells: numbers by row name.
        columns: headings; long paths are shown by their ends.
        above: a group name over each column; shown where it changes.
        low: whether the lowest is the best.
        scale: multiplies what is shown.
        star: whether to mark the best.
        notes: text behind each number, by row name.
        corner: what the rows are.
        digits: behind the point.
        width: of a line at most; by default that of the terminal, 100 where there is none.
    """
    best = [(min if low else max)(column) for column in zip(*cells.values(), strict=True)]
    texts = {
        name: [
            f"{value * scale:.{digits}f}{'*' if star and value == top else ' ' if star else ''}"
            + (notes[name][i] if notes else "")
            for i, (value, top) in enumerate(zip(row, best, strict=True))
        ]
        for name, row in cells.items()
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
    room = width or shutil.get_terminal_size((_NO_TERMINAL, 24)).columns
    rows = _row_names(texts, room - sum(size + 2 for size in widths))
    first = max(map(len, [corner, *(line for lines in rows.values() for line in lines)]))
    room -= first
    blocks = []
    for part in _parts(widths, room):
        sizes = widths[part]
        lines = [_line("", _once(above[part]), first, sizes)] if above else []
        lines.append(_line(corner, heads[part], first, sizes))
        for name, row in texts.items():
            *begun, last = rows[name]
            lines += [*begun, _line(last, row[part], first, sizes)]
        blocks.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(blocks)


def _row_names(names: Collection[str], room: int) -> dict[str, list[str]]:
    """The lines of each name: one where all fit beside their numbers, or else several."""
    return {
        name: [name] if max(map(len, names)) <= room else textwrap.wrap(name, _LONG_NAME) or [""]
        for name in names
    }


def short(names: Sequence[str]) -> list[str]:
    """Names for headings: of a long path its end, as much as tells it from the others.

    >>> short(["cifar10", "/data/photos/cameras/a/test", "/data/photos/cameras/b/test"])
    ['cifar10', 'a/test', 'b/test']
    """
    return [name if len(name) <= _LONG_PATH else _end(name, names) for name in names]


def _end(path: str, names: Sequence[str]) -> str:
    parts = path.rstrip("/").split("/")
    others = [f"/{name.rstrip('/')}" for name in names if name != path]
    for start in range(len(parts) - 1, 0, -1):
        end = "/".join(parts[start:])
        if not any(other.endswith(f"/{end}") for other in others):
            return end
    return path


def _parts(widths: Sequence[int], room: int) -> Iterator[slice]:
    """Runs of columns that fit, two spaces before each; one that is too wide stands alone."""
    start, used = 0, 0
    for i, width in enumerate(widths):
        if i > start and used + width + 2 > room:
            yield slice(start, i)
            start, used = i, 0
        used += width + 2
    yield slice(start, len(widths))


def _line(name: str, texts: Sequence[str], first: int, widths: Sequence[int]) -> str:
    return f"{name:<{first}}  " + "  ".join(f"{t:>{w}}" for t, w in zip(texts, widths, strict=True))


def _once(groups: Sequence[str]) -> list[str]:
    """Each name where a run of it starts."""
    return [g if i == 0 or groups[i - 1] != g else "" for i, g in enumerate(groups)]
