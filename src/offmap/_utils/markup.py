"""Tables of numbers for documents: Markdown, and LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, groupby, pairwise

# Character by character, so that no backslash of an escape is escaped again.
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in '<>"[]|'},
}
Texts = Mapping[str, Sequence[str]]
Places = Mapping[str, Sequence[int]]


def places(cells: Mapping[str, Sequence[float]], *, low: bool, digits: int) -> Places:
    """Which numbers of each column are the best (1) and second (2), as rounded; else 0.

    Numbers that round to the same value share a place.

    >>> places({"a": [0.9, 0.5], "b": [0.9, 0.4], "c": [0.7, 0.1]}, low=False, digits=2)
    {'a': [1, 1], 'b': [1, 2], 'c': [2, 0]}
    """
    ranks = []
    for column in zip(*cells.values(), strict=True):
        rounded = [round(value, digits) for value in column]
        order = sorted(set(rounded), reverse=not low)[:2]
        ranks.append([order.index(x) + 1 if x in order else 0 for x in rounded])
    rows = zip(*ranks, strict=True) if ranks else ([] for _ in cells)
    return {name: list(row) for name, row in zip(cells, rows, strict=True)}


def markdown(
    texts: Texts, columns: Sequence[str], places: Places, *, corner: str, above: Sequence[str] = ()
) -> str:
    """A table in GitHub's Markdown; the best of each column is bold, the second underlined.

    Args:
        texts: cells by row name.
        columns: headings.
        places: of each cell, see :func:`places`.
        corner: what the rows are.
        above: a group over each column, which stands before its heading.
    """
    groups = above or [""] * len(columns)
    heads = [f"{g}: {c}" if g else c for g, c in zip(groups, columns, strict=True)]
    lines = [_row([corner, *map(_escaped, heads)]), _row(["---", *["---:"] * len(columns)])]
    marks = {0: "{}", 1: "**{}**", 2: "<u>{}</u>"}
    for name, row in texts.items():
        cells = [marks[p].format(text) for text, p in zip(row, places[name], strict=True)]
        lines.append(_row([_escaped(name), *cells]))
    return "\n".join(lines)


def latex(
    texts: Texts,
    columns: Sequence[str],
    places: Places,
    *,
    corner: str,
    above: Sequence[str] = (),
    caption: str = "",
) -> str:
    r"""A ``tabular`` for the package booktabs; the best of each column bold, the second underlined.

    Args:
        texts: cells by row name; ``±`` becomes ``\pm``.
        columns: headings.
        places: of each cell, see :func:`places`.
        corner: what the rows are.
        above: a group over each column, with a rule below it.
        caption: written into a comment above the table.
    """
    marks = {0: "{}", 1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}
    lines = [
        f"% {line}" for line in f"{caption}\nneeds \\usepackage{{booktabs}}".splitlines() if line
    ]
    lines += [rf"\begin{{tabular}}{{l{'r' * len(columns)}}}", r"\toprule"]
    if any(above):
        runs = [(name, len(list(run))) for name, run in groupby(above)]
        heads = [rf"\multicolumn{{{n}}}{{c}}{{{in_latex(name)}}}" for name, n in runs]
        ends = list(accumulate((n for _, n in runs), initial=1))
        rules = [rf"\cmidrule(lr){{{i + 1}-{j}}}" for i, j in pairwise(ends)]
        lines += [" & ".join(["", *heads]) + r" \\", "".join(rules)]
    lines += [" & ".join(map(in_latex, [corner, *columns])) + r" \\", r"\midrule"]
    for name, row in texts.items():
        cells = []
        for text, p in zip(row, places[name], strict=True):
            number, sign, deviation = text.partition("±")
            suffix = rf" {{\scriptsize $\pm$ {deviation.strip()}}}" if sign else ""
            cells.append(marks[p].format(in_latex(number.strip())) + suffix)
        lines.append(" & ".join([in_latex(name), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def in_latex(text: str) -> str:
    r"""Text with the special characters of LaTeX escaped.

    >>> print(in_latex(r"50 % of a_b & \input"))
    50 \% of a\_b \& \textbackslash{}input
    """
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """A name with the signs of Markdown and HTML escaped."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{sign}" if sign in "\\|*_`[]~" else sign for sign in text)
