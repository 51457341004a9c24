"""A page for each detector of the catalogue, and the table of all of them."""

from __future__ import annotations

import inspect
import re
from itertools import groupby
from pathlib import Path
from typing import Any

import figures

import pages
from offmap import detectors
from offmap.detectors import Composite, Detector, cost, passes, why_not_exported

# How families are called, in the order of the catalogue.
FAMILIES = {
    "logits": "Scores of the logits",
    "features": "Scores of the features, and of features and head",
    "shapers": "Shapers: they change features or head for the detector that they are put around",
    "layers": "Scores of other layers",
    "gradients": "Scores that need gradients or further passes",
    "ensembles": "Scores of ensembles",
    "combined": "Several detectors as one",
}
_INTRODUCTION = """
Take ``auto``, and nothing has to be chosen: :doc:`which detector? </auto>` says why, and where it
loses. Each name leads to a page with formula, arguments, source and figures, which is made from the
method's docstring; ``offmap list`` shows the same in a terminal.

*Cost* is what comes to the forward pass: ``sums`` with what was learned, a ``bank`` of kept
samples, other ``layers``, further ``passes`` of the network. *Exports* says whether it can be
part of one graph without this library. Near and far are mean AUROC in % on one network, where
measured: :doc:`all figures and the command </benchmarks>`.
"""
_ROLE = re.compile(r":\w+:`~?([^`]*)`")


def setup(app: Any) -> dict[str, Any]:
    """Write the pages before the sources are read."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}


def _write(app: Any) -> None:
    source = Path(app.srcdir)
    measured = figures.tables(source / "benchmarks.md")
    own = [entry for entry in detectors.entries() if entry.family in FAMILIES]
    made = {f"{entry.name}.rst": page(entry, measured) for entry in own}
    pages.write(source / "methods", {"index.rst": index(own, measured), **made})


def page(entry: Any, measured: list[figures.Figures]) -> str:
    """What is known of one detector."""
    name = entry.method.__name__
    members = ", ".join(own_members(entry.method))
    lines = [
        *pages.title(name),
        *pages.table([[f"**{word}**", text] for word, text in facts(entry).items()]),
        f".. autoclass:: offmap.{name}",
        *([f"   :members: {members}"] if members else []),
        "",
        *_measured(entry, measured),
    ]
    return "\n".join(lines)


def _measured(entry: Any, measured: list[figures.Figures]) -> list[str]:
    mine = [each for each in measured if entry.name in each.rows]
    if not mine:
        return []
    lines = pages.title("Figures", "-")
    for each in mine:
        lines += [
            f"{each.heading}:",
            "",
            *pages.table([each.columns, each.rows[entry.name]], header=True),
        ]
    return [*lines, ":doc:`Network, data, command and the other detectors </benchmarks>`.", ""]


def facts(entry: Any) -> dict[str, str]:
    """What a choice rests on, in words."""
    made = entry.method.default()
    reason = why_not_exported(made)
    return {
        "On the command line": ", ".join(f"``{name}``" for name in (entry.name, *entry.aliases)),
        "Family": FAMILIES[entry.family],
        "Year": str(made.year or "no publication"),
        "Needs": needs(made),
        "Learns from": learns(made),
        "Cost": cost(made),
        "Suits": made.suits,
        "Exports": "yes" if reason is None else f"no: {reason}",
    }


def needs(made: Detector) -> str:
    """What it reads of each sample."""
    return made.needs.words.replace("+", ", ") or "what its parts need"


def learns(made: Detector) -> str:
    """How often it reads which data."""
    counts = {"training": passes(made, "train"), "calibration": passes(made, "calibration")}
    told = [
        f"{kind} data ({n} {'pass' if n == 1 else 'passes'})" for kind, n in counts.items() if n
    ]
    return ", then ".join(told) or "nothing"


def own_members(method: type) -> list[str]:
    """What users may call of it beside what every detector has."""
    common = set(dir(Composite))
    return [
        name
        for name, value in vars(method).items()
        if not name.startswith("_")
        and name not in common
        and inspect.getdoc(value)
        and isinstance(value, classmethod | staticmethod | property) | inspect.isfunction(value)
    ]


def index(entries: list[Any], measured: list[figures.Figures]) -> str:
    """All detectors by family."""
    lines = [*pages.title("All detectors"), _INTRODUCTION]
    head = ["detector", "what", "needs", "cost", "year", "exports", "near", "far"]
    for family, of in groupby(entries, key=lambda entry: entry.family):
        lines += pages.title(FAMILIES[family], "-")
        lines += pages.table([head, *(_row(entry, measured) for entry in of)], header=True)
    names = [f"   {entry.name}" for entry in entries]
    return "\n".join([*lines, ".. toctree::", "   :hidden:", "", *names, ""])


def _row(entry: Any, measured: list[figures.Figures]) -> list[str]:
    made = entry.method.default()
    summary = (inspect.getdoc(entry.method) or "").partition("\n")[0]
    return [
        f":doc:`{entry.method.__name__} <{entry.name}>`",
        _ROLE.sub(r"\1", summary),
        needs(made),
        cost(made),
        str(made.year or "-"),
        "no" if why_not_exported(made) else "yes",
        *(_figure(entry.name, column, measured) for column in ("near", "far")),
    ]


def _figure(name: str, column: str, measured: list[figures.Figures]) -> str:
    tables = (each for each in measured if column in each.columns and name in each.rows)
    first = next(tables, None)
    return "-" if first is None else first.rows[name][first.columns.index(column)]
