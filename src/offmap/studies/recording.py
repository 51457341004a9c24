"""Neural collapse after the fact: records of a training from the weights that it kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from offmap._utils.files import write_json
from offmap._utils.progress import progress
from offmap.errors import ArgumentError, DataNotFoundError, StoreError
from offmap.networks import build, load_weights
from offmap.studies._records_figures import draw_records
from offmap.studies.measuring import add, measure
from offmap.studies.records import Records
from offmap.training import WEIGHTS, Recipe, check_data, kept, normalization, recipe_of
from offmap.training.sets import known

MEASURED = "records.json"


def record_run(
    run: str | Path,
    *,
    train: Any = None,
    id_test: Any = None,
    ood: Mapping[str, Any] | None = None,
    detectors: Sequence[Any] = (),
    out: str | Path | None = None,
    show_progress: bool | None = None,
    **options: Any,
) -> Records:
    """Measure neural collapse, and detectors beside it, in every epoch whose weights were kept.

    ``collapse.csv``, ``ood.csv`` and their figures. What was measured stays: a second call
    measures only epochs that came since, or that an interruption left out.

    Args:
        run: folder of a training with ``keep_every``; of a run without, its last weights count.
        train: training data, un-augmented; by default what the run was trained on.
        id_test: ID data to evaluate on; by default what the run was validated on.
        ood: OOD sets by name, or by group and name.
        detectors: as for :func:`offmap.evaluate`; none without OOD sets.
        out: folder for the records; by default ``collapse`` in that of the run.
        show_progress: ``None`` shows a bar on a terminal.
        **options: of :func:`offmap.studies.measuring.measure`.

    Raises:
        StoreError: there is no run that can be read.
        DataNotFoundError: it has kept no weights yet.
        DataError: its recipe names other data now than it was trained on.
        ArgumentError: ``out`` holds records of another training, or of other data or detectors.
    """
    recipe = recipe_of(run)
    weights = _kept(Path(run), recipe)
    train, id_test = seen_by(run, recipe, train, id_test)
    out = Path(run) / "collapse" if out is None else Path(out)
    what = {"id_test": id_test, "ood": ood, "detectors": detectors, "show_progress": False}
    _begin(out, {"weights": _digest(weights), **_stated(train, **what, **options)})
    wanting = [epoch for epoch in weights if epoch not in Records.read(out).epochs]
    options = {"normalization": normalization(recipe.normalization), **options}
    with progress("collapse", len(wanting), show=show_progress) as advance:
        for epoch in wanting:
            network = network_of(recipe, weights[epoch])
            add(out, epoch, measure(network, train, **what, **options))
            advance(1)
    records = Records.read(out)
    draw_records(records, out)
    return records


def network_of(recipe: Recipe, weights: Path) -> nn.Module:
    """The network of a recipe, with the weights in a file, in evaluation mode."""
    return load_weights(build(recipe.network), weights).eval()


def seen_by(
    run: str | Path, recipe: Recipe, train: Any = None, id_test: Any = None
) -> tuple[Any, Any]:
    """Training and test data: what was given; else what the recipe names.

    Raises:
        DataError: that is not what the run has seen.
    """
    given = {"train": train, "validation": id_test}
    if wanting := [part for part, data in given.items() if data is None]:
        own = dict(zip(given, known(recipe), strict=True))
        check_data(run, {part: own[part] for part in wanting})
        given |= {part: own[part] for part in wanting}
    return given["train"], given["validation"]


def _digest(weights: Mapping[int, Path]) -> str:
    """What tells one training from another: its earliest weights, which later ones leave alone."""
    return hashlib.sha256(weights[min(weights)].read_bytes()).hexdigest()


def _kept(run: Path, recipe: Recipe) -> dict[int, Path]:
    """Weights by epoch; of a run that kept none, those at its end."""
    if found := kept(run):
        return found
    if (run / WEIGHTS).is_file():
        return {recipe.epochs: run / WEIGHTS}
    raise DataNotFoundError(
        f"{run} has kept no weights yet: train with keep_every, or to the end, and measure then"
    )


def _begin(out: Path, stated: dict[str, Any]) -> None:
    """Refuse to mix records of different things in one folder; write down what these are of."""
    path = out / MEASURED
    if path.is_file():
        try:
            before = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise StoreError(f"{path} cannot be read: {error}") from error
        if changed := [name for name in stated if before.get(name) != stated[name]]:
            raise ArgumentError(
                f"{out} holds records of other {', '.join(changed)}: give another folder"
            )
    write_json(path, stated)


def _stated(train: Any, **what: Any) -> dict[str, Any]:
    """What is measured, as plain values: data by their fingerprints."""
    return {
        "train": _print(train),
        "test": _print(what["id_test"]),
        "ood": _print(what["ood"] or {}),
        "detectors": [str(each) for each in what["detectors"]],
        "precision": what.get("precision", "fp32"),
    }


def _print(data: Any) -> Any:
    """Fingerprints, or what else tells data apart."""
    if isinstance(data, Mapping):
        return {name: _print(each) for name, each in data.items()}
    return str(getattr(data, "fingerprint", data))
