"""The scores of November 2026, which changes of the contract must not change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import offmap
from offmap import demo
from offmap.errors import StoreError
from tests.golden.make import SPECS, scores

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def today() -> dict[str, torch.Tensor]:
    return scores()


@pytest.mark.parametrize("spec", SPECS)
def test_the_scores_are_those_of_before(spec: str, today: dict[str, torch.Tensor]) -> None:
    """To 1e-6 of the largest: on one machine they were equal bit for bit; processors differ."""
    before = load_file(FOLDER / "scores.safetensors")[spec]
    assert torch.allclose(today[spec], before, rtol=0, atol=1e-6 * float(before.abs().max()))


def test_an_older_guard_is_refused_with_the_command_that_makes_it_anew() -> None:
    with pytest.raises(StoreError, match=r"version 1.*offmap fit"):
        offmap.load(FOLDER / "guard", demo.shipped())


def test_older_results_are_refused_with_the_command_that_makes_them_anew() -> None:
    with pytest.raises(StoreError, match=r"no stated version.*offmap bench"):
        offmap.Results.load(FOLDER / "results")
