"""``offmap compare``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from offmap.cli import _options as options

if TYPE_CHECKING:
    from offmap.evaluation import Results


class Form(StrEnum):
    """How a table is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    LATEX = "latex"


def compare(
    results: list[str] = typer.Argument(
        ..., help="Folders that `offmap bench` wrote; NAME=FOLDER to call one by a name."
    ),
    mean: bool = typer.Option(
        False, help="Means and deviations over the networks, and ranks of the detectors."
    ),
    metric: list[str] = options.METRIC,
    form: Form = typer.Option(Form.TEXT, "--format", help="Of the tables."),
) -> None:
    """Hold several networks against the first of them, or take them as one by their mean.

    Examples:
        offmap compare old=out/old new=out/new

        offmap compare out/seed0 out/seed1 out/seed2 --mean --metric fpr_id_kept --format latex
    """
    from offmap.cli._messages import say
    from offmap.evaluation import aggregate
    from offmap.evaluation import compare as held_against

    networks = loaded(results)
    if mean:
        tables = aggregate(networks)
        texts = [_written(tables, name, form) for name in metric]
    elif form is Form.TEXT and metric == ["auroc"]:
        texts = [held_against(networks).table()]
    else:
        texts = [
            f"{label}:\n\n{_written(each, name, form)}"
            for label, each in networks.items()
            for name in metric
        ]
    say("\n\n".join(texts))


def loaded(folders: list[str]) -> dict[str, Results]:
    """Results by the name of their folder, or as they are called."""
    from offmap._utils.table import short
    from offmap.cli._arguments import named

    by_name = named(folders)
    names = short([name.rstrip("/") for name in by_name])
    return {name: _results(Path(of)) for name, of in zip(names, by_name.values(), strict=True)}


def _results(path: Path) -> Results:
    """Those of this library, or of scores of another tool."""
    from offmap.evaluation import Results, read_scores

    others = path.is_file() or any(path.glob("*.npz"))
    return read_scores(path) if others else Results.load(path)


def _written(tables: object, metric: str, form: Form) -> str:
    from offmap.evaluation.tables import Tabular

    assert isinstance(tables, Tabular)
    if form is Form.MARKDOWN:
        return tables.to_markdown(metric)
    return tables.to_latex(metric) if form is Form.LATEX else tables.table(metric)
