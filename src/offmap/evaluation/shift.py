"""Shifted ID: how detectors fare on it, and on OOD beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from offmap._utils.table import render
from offmap.metrics import auroc

if TYPE_CHECKING:
    from offmap.evaluation.results import Results

EVERY = "all shifted"


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One detector on one shifted ID set.

    Args:
        detector: its name.
        set: name of the shifted set; "all shifted" is all of several together.
        told_apart: AUROC of the shifted set, in the place of OOD, against the ID set: one half
            where the shift does not change the scores.
        auroc: against the ID set alone, the mean over the OOD sets.
        full_spectrum: the same against the ID and the shifted set together.
        alarm: share of the shifted set above the detector's threshold.
        id_alarm: share of the ID set above it.

    References:
        Yang et al., Full-Spectrum Out-of-Distribution Detection, IJCV 2023, arXiv:2204.05306.
    """

    detector: str
    set: str
    told_apart: float
    auroc: float
    full_spectrum: float
    alarm: float | None = None
    id_alarm: float | None = None


def shifts_in(
    sets: Sequence[str],
    scores: Mapping[str, Mapping[str, Any]],
    ood: Sequence[str],
    thresholds: Mapping[str, float | None],
) -> list[Shift]:
    """Every detector on each shifted set, then on all of several."""
    parts = {name: [name] for name in sets} | ({EVERY: [*sets]} if len(sets) > 1 else {})
    shifts = []
    for (name, names), (detector, of) in product(parts.items(), scores.items()):
        plain, shifted = of["id"], np.concatenate([of[each] for each in names])
        reference = np.concatenate([plain, shifted])
        threshold = thresholds[detector]
        alarms = {} if threshold is None else {
            "alarm": float((shifted > threshold).mean()),
            "id_alarm": float((plain > threshold).mean()),
        }  # fmt: skip
        shifts.append(
            Shift(
                detector=detector,
                set=name,
                told_apart=auroc(plain, shifted),
                auroc=float(np.mean([auroc(plain, of[each]) for each in ood])),
                full_spectrum=float(np.mean([auroc(reference, of[each]) for each in ood])),
                **alarms,
            )
        )
    return shifts


HEADINGS = {
    "id_alarm": "ID alarms",
    "alarm": "its alarms",
    "told_apart": "told apart",
    "auroc": "AUROC",
    "full_spectrum": "full spectrum",
}


def shift_columns(shifts: Sequence[Shift]) -> dict[str, str]:
    """The fields that all of them have, with their headings."""
    return {n: h for n, h in HEADINGS.items() if all(getattr(s, n) is not None for s in shifts)}


SHIFT_WORDS = (
    "In %. Told apart: AUROC of the shifted set against ID; 50 where a detector does not mind. "
    "AUROC: OOD against ID, the mean over the OOD sets. Full spectrum: OOD against both."
)


def accuracies(results: Results) -> dict[str, str]:
    """The accuracy of the network on each shifted set, a line by its name."""
    accuracy = {info.name: info.right / info.n for info in results.sets if info.right is not None}
    beside = f", {accuracy['id']:.2%} on the ID set" if "id" in accuracy else ""
    sets = [info.name for info in results.sets if info.role == "shift" and info.name in accuracy]
    return {name: f"{name}: accuracy {accuracy[name]:.2%}{beside}" for name in sets}


def shift_text(results: Results) -> str:
    """A table for each shifted set, for a terminal."""
    shifts = results.shifts
    blocks = []
    for name in dict.fromkeys(shift.set for shift in shifts):
        line = accuracies(results).get(name, f"{name}:")
        own = [s for s in shifts if s.set == name]
        columns = shift_columns(own)
        cells = {s.detector: [float(getattr(s, column)) for column in columns] for s in own}
        table = render(cells, list(columns.values()), scale=100, star=False)
        blocks.append(f"{line}\n{table}")
    return "\n\n".join(["Shifted ID. " + SHIFT_WORDS, *blocks])
