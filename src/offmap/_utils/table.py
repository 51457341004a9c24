"""Tables of numbers for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


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
) -> str:
    """Rows of numbers under their headings, the best of each column starred.

    Args:
        cells: numbers by row name.
        columns: headings.
        above: a group name over each column; shown where it changes.
        low: whether the lowest is the best.
        scale: multiplies what is shown.
        star: whether to mark the best.
        notes: text behind each number, by row name.
        corner: what the rows are.
        digits: behind the point.
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
    first = max(map(len, [*cells, corner]))
    widths = [
        max([len(head) + 1, *(len(row[i]) for row in texts.values())])
        for i, head in enumerate(columns)
    ]
    lines = [_line("", _once(above), first, widths)] if above else []
    lines.append(_line(corner, [f"{head} " if star else head for head in columns], first, widths))
    lines += [_line(name, row, first, widths) for name, row in texts.items()]
    return "\n".join(line.rstrip() for line in lines)


def _line(name: str, texts: Sequence[str], first: int, widths: Sequence[int]) -> str:
    return f"{name:<{first}}  " + "  ".join(f"{t:>{w}}" for t, w in zip(texts, widths, strict=True))


def _once(groups: Sequence[str]) -> list[str]:
    """Each name where a run of it starts."""
    return [g if i == 0 or groups[i - 1] != g else "" for i, g in enumerate(groups)]
