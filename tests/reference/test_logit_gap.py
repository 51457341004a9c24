"""LogitGap against its formula."""

from __future__ import annotations

import numpy as np
import pytest

import offmap
from offmap.errors import ArgumentError
from tests.conftest import World
from tests.reference import slow
from tests.reference.test_scores import assert_parity

NAMES = {"logitgap"}


@pytest.mark.parametrize("top", [None, 2, 4, 99])
def test_the_gap_to_the_mean_of_the_others(world: World, top: int | None) -> None:
    rows = []
    for z in world.ood.logits.double().numpy():
        largest = np.sort(z)[::-1][:top]
        others = largest[1:].mean()
        rows.append((others - largest[0], abs(others) + abs(largest[0])))
    assert_parity(offmap.LogitGap(top).score(world.ood), slow.pairs(rows))


def test_one_logit_has_no_gap() -> None:
    with pytest.raises(ArgumentError, match="at least 2"):
        offmap.LogitGap(1)
