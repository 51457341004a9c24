"""Evaluations of several networks, on the samples that all of them saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from offmap.errors import ArgumentError
from offmap.evaluation.results import Results


def on_shared_samples(results: Mapping[str, Results], sets: Sequence[str]) -> dict[str, Results]:
    """The scores, predictions and labels of the samples of the same keys, in one order.

    Samples on which one network was calibrated, or that its limit left out, are in none of them.
    The rows and thresholds of the evaluations are taken over as they are, from all their samples.

    Args:
        results: by network.
        sets: names of OOD sets; the others are left out.

    Raises:
        ArgumentError: a network without such a set, keys or labels, no sample in common, or
            different ID samples under one key.
    """
    names = ("id", *sets)
    places = {name: _places(results, name) for name in names}
    shared = {}
    for network, r in results.items():
        rows = {name: places[name][network] for name in names}
        shared[network] = replace(
            r,
            rows=[row for row in r.rows if row.set in rows],
            scores={d: {s: of[s][own] for s, own in rows.items()} for d, of in r.scores.items()},
            predictions={"id": r.predictions["id"][rows["id"]]},
            labels={"id": r.labels["id"][rows["id"]]},
            keys={s: [r.keys[s][row] for row in own] for s, own in rows.items()},
        )
    first = next(iter(shared.values())).labels["id"]
    if any(not np.array_equal(first, each.labels["id"]) for each in shared.values()):
        raise ArgumentError(
            "ID samples of one key have different labels: run `offmap bench` for all networks on "
            "the same data"
        )
    return shared


def _places(results: Mapping[str, Results], name: str) -> dict[str, Int64[np.ndarray, " n"]]:
    """The positions of the shared samples of one set in each evaluation."""
    rows = {}
    for network, r in results.items():
        labelled = name != "id" or "id" in r.labels
        if not labelled or name not in r.keys or "id" not in r.predictions:
            names = ", ".join(key for key in r.keys if key not in ("id", "calibration"))
            raise ArgumentError(
                f"{network} has no keys, predictions or ID labels for {name!r}; its OOD sets with "
                f"keys are: {names or 'none'}. Make the results anew by `offmap bench`, on "
                "labelled ID data"
            )
        rows[network] = {key: row for row, key in enumerate(r.keys[name])}
    first = next(iter(rows.values()))
    keys = [key for key in first if all(key in row for row in rows.values())]
    if not keys:
        raise ArgumentError(
            f"{', '.join(results)} share no sample of {name!r}: run `offmap bench` for all on it"
        )
    return {network: np.array([row[key] for key in keys]) for network, row in rows.items()}
