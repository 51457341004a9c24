from __future__ import annotations

import torch
from torch.utils.data import DataLoader, TensorDataset

from offmap.data import BatchedSet, ImageSet


def test_a_set_that_reads_from_any_sample_on_is_told_from_an_iterable() -> None:
    images = torch.zeros(4, 1, 2, 2)
    assert isinstance(ImageSet("set", images), BatchedSet)
    assert not isinstance([images], BatchedSet)
    assert not isinstance(DataLoader(TensorDataset(images)), BatchedSet)
