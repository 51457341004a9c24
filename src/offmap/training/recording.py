"""Neural collapse after the fact: records of a training from the weights that it kept."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offmap._utils.files import reason_of, write_json
from offmap._utils.progress import progress
from offmap.errors import ArgumentError, DataNotFoundError, StoreError
from offmap.evaluation.measure import measure
from offmap.training.folder import WEIGHTS, check_data, kept, recipe_of
from offmap.training.recipe import Recipe
from offmap.training.records import Records, write_measurement
from offmap.training.sets import known, normalization
from offmap.training.trained import network_of

INPUTS = "records.json"
_ADDRESSES = re.compile(r" at 0x[0-9a-f]+", re.IGNORECASE)  # in memory: others in each process


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
    """Measure neural collapse, and detectors beside it, at every epoch whose weights were kept.

    Writes ``collapse.csv``, ``ood.csv`` and their figures. A second call measures only the epochs
    that are not in them yet.

    Args:
        run: folder of a training with ``keep_every``; of a run without, its last weights count.
        train: training data, un-augmented; by default what the run was trained on.
        id_test: ID data to evaluate on; by default what the run was validated on.
        ood: OOD sets by name, or by group and name.
        detectors: as for :func:`offmap.evaluate`; none without OOD sets.
        out: folder for the records; by default ``collapse`` in that of the run.
        show_progress: ``None`` shows a bar on a terminal.
        **options: of :func:`offmap.evaluation.measure.measure`.

    Raises:
        StoreError: there is no run that can be read.
        DataNotFoundError: it has kept no weights yet.
        DataError: its recipe names other data now than it was trained on.
        ArgumentError: ``out`` holds records of another training, or of other data or detectors.
    """
    run, recipe = Path(run), recipe_of(run)
    weights = kept(run)
    if not weights and (run / WEIGHTS).is_file():  # it kept none, but those at its end
        weights = {recipe.epochs: run / WEIGHTS}
    if not weights:
        raise DataNotFoundError(
            f"{run} has kept no weights yet: train with keep_every, or to the end, and measure then"
        )
    train, id_test = data_of_run(run, recipe, train, id_test)
    out = run / "collapse" if out is None else Path(out)
    _check_inputs(
        out / INPUTS,
        {
            # Later weights leave the earliest ones alone: these tell one training from another.
            "weights": hashlib.sha256(weights[min(weights)].read_bytes()).hexdigest(),
            "train": _fingerprint(train),
            "test": _fingerprint(id_test),
            "ood": _fingerprint(ood or {}),
            "detectors": [str(detector) for detector in detectors],
            "precision": options.get("precision", "fp32"),
        },
    )
    options = {"normalization": normalization(recipe.normalization), **options}
    options |= {"id_test": id_test, "ood": ood, "detectors": detectors, "show_progress": False}
    missing = [epoch for epoch in weights if epoch not in Records.read(out).epochs]
    with progress("collapse", len(missing), show=show_progress) as advance:
        for epoch in missing:
            network = network_of(recipe, weights[epoch])
            write_measurement(out, epoch, measure(network, train, **options))
            advance(1)
    records = Records.read(out)
    records.draw(out)
    return records


def data_of_run(
    run: str | Path, recipe: Recipe, train: Any = None, id_test: Any = None
) -> tuple[Any, Any]:
    """Training and test data: those of the caller; where missing, what the recipe names.

    Raises:
        DataError: what the recipe names is not what the run was trained on.
    """
    parts = {"train": train, "validation": id_test}
    if missing := [part for part, data in parts.items() if data is None]:
        sets = dict(zip(parts, known(recipe), strict=True))
        check_data(run, {part: sets[part] for part in missing})
        parts |= {part: sets[part] for part in missing}
    return parts["train"], parts["validation"]


def _check_inputs(path: Path, inputs: dict[str, Any]) -> None:
    """Refuse to mix records of different inputs in one folder; write down those of these."""
    if path.is_file():
        try:
            before = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(f"{path} cannot be read: {reason_of(error)}") from error
        records = Records.read(path.parent)
        # Inputs without records are of a call that failed before it had measured anything.
        measured = records.collapse or records.ood
        changed = [name for name in inputs if before.get(name) != inputs[name]]
        if measured and changed:
            raise ArgumentError(
                f"{path.parent} holds records of other {', '.join(changed)}: give another folder"
            )
    write_json(path, inputs)


def _fingerprint(data: Any) -> Any:
    """The fingerprint of a set, or those of several by name; of other data, their description."""
    if isinstance(data, Mapping):
        return {name: _fingerprint(part) for name, part in data.items()}
    text = str(getattr(data, "fingerprint", None) or data)  # streamed sets have none
    return _ADDRESSES.sub("", text)
