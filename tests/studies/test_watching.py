"""What is recorded while a network trains."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from offmap.collapse import collapse
from offmap.studies import digits
from offmap.studies.watching import watch_collapse
from offmap.training import Epoch


def test_collapse_is_recorded_every_few_epochs_and_once_each(tmp_path: Path) -> None:
    sets = digits.digits_data()
    options = {"normalization": digits.NORMALIZATION, "show_progress": False}
    far = {"faces": sets.ood["far"]["faces"]}
    network = digits.shipped()
    watch = watch_collapse(sets.train, ood=far, every=2, **options)
    for number in (1, 2, 3, 2, 3, 5):  # resumed after the third
        watch(Epoch(number, 5, [], network, tmp_path))
    with (tmp_path / "collapse.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["2", "5"]
    expected = collapse(network, sets.train, ood=far, **options)
    for name in ("nc1", "nc2_simplex", "nc3", "nc4", "accuracy"):
        assert float(rows[0][name]) == pytest.approx(getattr(expected, name))
    assert float(rows[1]["nc5_faces"]) == pytest.approx(expected.nc5["faces"])
    assert expected.accuracy > 0.99
    assert expected.nc4 < 0.02
