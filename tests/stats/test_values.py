"""What statistics are worth: the numbers themselves, by other ways than their own."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, is_dataclass
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import offmap.stats
from offmap.stats import Bank, ColumnHistogram, ColumnQuantiles, Histogram, Largest, Quantile
from tests.stats.test_laws import STATISTICS, tensors

RECORDS = [
    value for name in offmap.stats.__all__ if is_dataclass(value := getattr(offmap.stats, name))
]
MASK = (1 << 64) - 1


@pytest.mark.parametrize("record", RECORDS)
def test_a_statistic_cannot_be_changed(record: type) -> None:
    with pytest.raises(FrozenInstanceError):
        record.__new__(record).anything = 1


@pytest.mark.parametrize("name", STATISTICS)
@pytest.mark.parametrize("n", [0, 1, 20])
def test_an_empty_batch_changes_no_bit(name: str, n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(n, 3, generator=generator) + 5, torch.arange(n) % 5
    whole, empty = STATISTICS[name](x, y), STATISTICS[name](x[:0], y[:0])
    for joined in (whole + empty, empty + whole, empty + empty + whole):
        for a, b in zip(tensors(joined), tensors(whole), strict=True):
            assert torch.equal(a, b)
            assert not a.isnan().any()


def slow_hash(row: np.ndarray, form: list[int]) -> int:
    """A linear form of the bits, and SplitMix64's mixing, in Python's integers."""
    x = form[0]
    for bits, factor in zip(row.view(np.int32).tolist(), form[1:], strict=True):
        x += bits * factor
    x &= MASK
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def test_the_hash_of_a_row_is_that_of_splitmix() -> None:
    """Which rows a saved guard keeps depends on it."""
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(7)
    form = torch.randint(-(2**63), 2**63 - 1, (4,), generator=generator).tolist()
    hashes = Bank.of(x, size=50, seed=7).parts[0][0]
    assert [h & MASK for h in hashes.tolist()] == [slow_hash(row, form) for row in x.numpy()]


def test_a_bank_keeps_the_key_of_each_row() -> None:
    x = torch.arange(20.0)[:, None]
    names = tuple(f"row {i}" for i in range(20))
    parts = [Bank.of(x[i : i + 5], size=7, keys=names[i : i + 5]) for i in range(0, 20, 5)]
    bank = parts[0] + parts[1] + Bank.of(x[:0], size=7) + parts[2] + parts[3]
    assert bank.keys == tuple(f"row {int(row)}" for row in bank.rows[:, 0])
    assert len(bank.rows) == 7
    assert (bank + Bank.of(x[:5] + 100, size=7)).keys is None


def test_equal_rows_of_a_bank_stand_in_the_order_of_their_keys() -> None:
    rows = torch.tensor([[1.0, 2.0]] * 3 + [[3.0, 4.0]] * 2)
    names = ("c", "a", "b", "e", "d")
    whole = Bank.of(rows, size=3, keys=names)
    parts = [Bank.of(rows[i : i + 1], size=3, keys=names[i : i + 1]) for i in (4, 2, 0, 3, 1)]
    joined = reduce(add, parts)
    assert joined.keys == whole.keys
    assert list(joined.keys[:2]) == sorted(joined.keys[:2])


def test_the_largest_of_each_class_are_those_of_a_sort() -> None:
    x = torch.randn(40, generator=torch.Generator().manual_seed(2))
    y = torch.arange(40) % 7 % 4
    y[y == 3] = 0
    found = Largest.of(x, y, classes=4, size=12).values
    for c in range(4):
        own = sorted(x[y == c].tolist(), reverse=True)[:12]
        assert found[c].tolist() == own + [-torch.inf] * (12 - len(own))


@given(
    values=st.lists(st.integers(-3, 3), min_size=1, max_size=12),
    q=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),  # exact in binary
)
@settings(max_examples=100, deadline=None)
def test_the_least_quantile_has_nothing_below(values: list[int], q: float) -> None:
    x = torch.tensor(values).float()
    place = Quantile.locate(Histogram.coarse(x), q)
    place = Quantile.unpacked(place.packed())
    fine = Histogram.fine(x, place.bins)
    expected = bool((x.double() < place.value(fine)).sum() == 0)
    assert place.is_least(fine) == expected


def test_both_zeros_are_one_least_value() -> None:
    x = torch.tensor([-0.0, 0.0, 0.0, 1.0])
    for q in (0.0, 1 / 3, 2 / 3):
        place = Quantile.locate(Histogram.coarse(x), q)
        assert place.is_least(Histogram.fine(x, place.bins))


def column_quantiles(x: Tensor, quantiles: tuple[float, ...]) -> np.ndarray:
    place = ColumnQuantiles.locate(ColumnHistogram.of(x), quantiles)
    for digits in range(1, ColumnQuantiles.passes):
        place = ColumnQuantiles.unpacked(place.packed())
        place = place.narrowed(ColumnHistogram.of(x, place.prefixes, digits))
    return place.values().numpy()


def test_a_single_column_has_quantiles() -> None:
    x = torch.randn(31, 1, generator=torch.Generator().manual_seed(3))
    expected = np.quantile(x.double().numpy(), (0.1, 0.77), axis=0)
    np.testing.assert_allclose(column_quantiles(x, (0.1, 0.77)), expected, rtol=1e-12)
