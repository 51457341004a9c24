"""What a monitor bets on, and what each sample multiplies its stakes by."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from offmap.guard._betting import factors
from offmap.guard.certified import Certified

# Shares of OOD that are bet against; the first is the bet on the guard's own rate.
SHARES = np.array(
    [0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
)


def odds(certified: Certified, delta: float) -> Float64[np.ndarray, "g two f r"]:
    """What a sample of each group multiplies the stakes by, without an alarm and with one.

    A row for each of ``SHARES``, and one for the bet that there are too few alarms.
    """
    upper, lower = certified.upper(delta), certified.lower(delta)
    # OOD samples choose their class, so a share of all of them is bet on at the highest rate.
    rates = SHARES[:, None] + (1 - SHARES[:, None]) * upper.max()
    rates = np.where(SHARES[:, None] > 0, rates, upper)
    above = factors(rates)
    below = np.ones_like(above[:, :, :1])
    if lower is not None:  # that there is no alarm is bet on at one minus the rate
        below = factors(1 - lower)[::-1, :, None]
    return np.moveaxis(np.concatenate([above, below], axis=2), 3, 0)
