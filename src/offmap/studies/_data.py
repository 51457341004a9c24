"""What a study reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Data:
    """ID data in three disjoint parts, and OOD sets in the order of the tables.

    Args:
        train: what the networks are trained on, un-augmented.
        calibration: ID data that no network has seen, for the thresholds.
        test: ID data to evaluate on.
        ood: OOD sets by name, or by group and name.
    """

    train: Any
    calibration: Any
    test: Any
    ood: Mapping[str, Any]
