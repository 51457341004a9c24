"""What a study reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from offmap import data


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


def at_hand(*names: str) -> str:
    """The first of these sets that is on this machine; if none is, the first, from the hub."""
    return next((name for name in names if data.is_local(name)), names[0])


def embedded_ood(like: data.ImageSet, seed: int = 0) -> dict[str, dict[str, data.ImageSet]]:
    """Text, faces and noise of the size and channels of embedded digits."""
    channels, *size = like.shape
    text, faces = (
        data.embedded(name, size=(size[0], size[1]), channels=channels, limit=200)
        for name in ("text", "faces")
    )
    noise = data.noise("gaussian", 200, like.shape, seed=seed)
    return {"near": {"text": text}, "far": {"faces": faces, "noise": noise}}
