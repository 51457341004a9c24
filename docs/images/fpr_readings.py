"""Two readings of FPR@95TPR on one set of scores.

``python docs/images/fpr_readings.py docs/images`` writes ``fpr-readings.png``, which
docs/metrics.md shows, and prints its figures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from offmap.metrics import auroc, fpr_at_tpr

READINGS = {
    "id_kept": ("95 % of ID kept", "of OOD accepted"),
    "ood_caught": ("95 % of OOD caught", "of ID rejected"),
}


def scores() -> tuple[np.ndarray, np.ndarray]:
    """ID scores, and those of OOD samples of which a quarter is near."""
    random = np.random.default_rng(0)
    far, near = random.normal(5, 1, 3000), random.normal(0.5, 1, 1000)
    return random.normal(0, 1, 4000), np.concatenate([far, near])


def threshold(id_scores: np.ndarray, ood_scores: np.ndarray, reading: str) -> float:
    """Where each reading cuts."""
    if reading == "id_kept":
        return float(np.quantile(id_scores, 0.95))
    return float(np.quantile(ood_scores, 0.05))


def figures() -> dict[str, float]:
    """What the page says."""
    pair = scores()
    return {"auroc": auroc(*pair), **{name: fpr_at_tpr(*pair, reading=name) for name in READINGS}}


def draw(path: Path) -> None:
    """One panel for each reading; what counts as the rate is filled."""
    pair, rates = scores(), figures()
    bins = np.linspace(-4, 9, 66)
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True, layout="constrained")
    for axis, (name, (kept, counted)) in zip(axes, READINGS.items(), strict=True):
        cut = threshold(*pair, name)
        for data, color in zip(pair, ("tab:blue", "tab:orange"), strict=True):
            axis.hist(data, bins, histtype="step", color=color)
        wrong = pair[1][pair[1] <= cut] if name == "id_kept" else pair[0][pair[0] > cut]
        axis.hist(wrong, bins, color="tab:orange" if name == "id_kept" else "tab:blue", alpha=0.5)
        axis.axvline(cut, color="black", linewidth=1)
        axis.set_title(f"{kept}: {rates[name]:.1%} {counted}", fontsize=10)
        axis.set_xlabel("OOD score (blue: ID, orange: OOD)")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) / "fpr-readings.png")
    print(figures())
