"""``offmap compare``."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from offmap.cli import _options as options
from offmap.errors import ArgumentError, UnknownNameError

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
    detectors: list[str] = options.detectors([], " that the results have; by default all"),
    metric: list[str] = options.METRIC,
    form: Form = typer.Option(Form.TEXT, "--format", help="Of the tables."),
    systems: list[str] = typer.Option(
        [], help="OOD sets: accept with one network, answer with another; what is gained on each."
    ),
    seed: int | None = typer.Option(
        None, help="Of the fifth on which --systems chooses; by default 0."
    ),
) -> None:
    """Compare several networks with the first of them, or take them as one by their mean.

    Examples:
        offmap compare old=out/old new=out/new

        offmap compare out/seed0 out/seed1 out/seed2 --mean --metric fpr_id_kept --format latex

        offmap compare a=out/a b=out/b --systems tiny_imagenet places
    """
    from offmap.cli._messages import say
    from offmap.evaluation import aggregate
    from offmap.evaluation import compare as compare_results

    if systems and (mean or metric != ["auroc"] or form is not Form.TEXT):
        raise ArgumentError(
            "--systems has one table, of F1 in text: leave out --mean, --metric and --format"
        )
    if seed is not None and not systems:
        raise ArgumentError("--seed is of the fifth on which --systems chooses: give --systems")
    networks = loaded(results, detectors)
    if systems:
        from offmap.evaluation.cascade_tables import systems_text
        from offmap.evaluation.shared import on_shared_samples

        shared = on_shared_samples(networks, systems)
        labels = next(iter(shared.values())).labels["id"]
        texts = [systems_text(shared, labels, systems, seed or 0)]
    elif mean:
        tables = aggregate(networks)
        texts = [_format(tables, name, form) for name in metric]
    elif form is Form.TEXT and metric == ["auroc"]:
        texts = [compare_results(networks).table()]
    else:
        texts = [
            f"{label}:\n\n{_format(each, name, form)}"
            for label, each in networks.items()
            for name in metric
        ]
    say("\n\n".join(texts))


def loaded(folders: list[str], detectors: Sequence[str] = ()) -> dict[str, Results]:
    """Results by the names given, or those of their folders.

    Args:
        folders: of results, or files of scores.
        detectors: each network keeps those of them that it has; all, where none is named.

    Raises:
        UnknownNameError: none has such a detector, or one has none of them.
    """
    from offmap._utils.table import short
    from offmap.cli._arguments import named
    from offmap.evaluation import Results, read_scores

    by_name = named([folder.rstrip("/") or folder for folder in folders])
    names = short(list(by_name))
    results = {}
    for name, path in zip(names, map(Path, by_name.values()), strict=True):
        of_another_tool = path.is_file() or any(path.glob("*.npz"))
        results[name] = read_scores(path) if of_another_tool else Results.load(path)
    if not detectors:
        return results
    known = dict.fromkeys(d for of in results.values() for d in of.detectors)
    if missing := [name for name in detectors if name not in known]:
        raise UnknownNameError(f"no {missing[0]!r} among {', '.join(known)}")
    for network, of in results.items():
        own = [name for name in detectors if name in of.detectors]
        if not own:
            raise UnknownNameError(f"{network} has none of {', '.join(detectors)}")
        results[network] = of.only(own)
    return results


def _format(tables: object, metric: str, form: Form) -> str:
    from offmap.evaluation.tables import Tabular

    assert isinstance(tables, Tabular)
    if form is Form.MARKDOWN:
        return tables.to_markdown(metric)
    return tables.to_latex(metric) if form is Form.LATEX else tables.table(metric)
