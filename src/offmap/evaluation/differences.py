"""Paired differences in AUROC between two score functions on the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from offmap.metrics import Difference, delong_test, delong_test_of_mean

Scores = Mapping[str, Float[np.ndarray, " n"]]


def auroc_difference(ours: Scores, theirs: Scores, set: str) -> Difference:
    """The AUROC of one detector minus that of another on one OOD set, by the paired DeLong test.

    Args:
        ours: scores by set, the ID set as ``"id"``, as in :attr:`offmap.Results.scores`.
        theirs: likewise, of the same samples.
        set: name of the OOD set.
    """
    return delong_test(ours["id"], ours[set], theirs["id"], theirs[set])


def mean_auroc_difference(ours: Scores, theirs: Scores, sets: Sequence[str]) -> Difference:
    """The same of the mean AUROC over several OOD sets."""
    return delong_test_of_mean(
        ours["id"], [ours[name] for name in sets], theirs["id"], [theirs[name] for name in sets]
    )


def difference_table(heading: str, differences: Mapping[str, Difference]) -> str:
    """Differences in points with their 95 % intervals and p-values, a line for each name."""
    lines = [f"{heading} in points, 95 % interval, paired test"]
    width = max([20, *map(len, differences)])
    for name, test in differences.items():
        points = f"{100 * test.difference:+6.2f} ({100 * test.low:+.2f} to {100 * test.high:+.2f})"
        lines.append(f"  {name:<{width}} {points}, p = {test.p_value:.2g}")
    return "\n".join(lines)
