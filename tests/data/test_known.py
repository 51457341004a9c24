from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from offmap.data import channel_statistics, known, load
from offmap.errors import DataNotFoundError, UnknownNameError


def test_every_known_set_can_be_got_somewhere() -> None:
    for name, entry in known().items():
        assert entry.repository or entry.note, name
        assert (entry.mean is None) == (entry.std is None), name
        assert entry.splits, name


def test_the_table_cannot_be_changed_from_outside() -> None:
    known().clear()
    assert "cifar10" in known()


def test_normalization_is_in_units_of_the_range() -> None:
    mean, std = channel_statistics("cifar10")
    assert [round(255 * x, 1) for x in mean] == [125.3, 123.0, 113.9]
    assert [round(255 * x, 1) for x in std] == [63.0, 62.1, 66.7]
    assert channel_statistics("imagenet") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with pytest.raises(UnknownNameError, match="'usps': known are those of cifar10, cifar100"):
        channel_statistics("usps")


def test_a_known_name_goes_to_its_place_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(*args: Any, **kwargs: Any) -> None:
        asked.append((args, kwargs))
        raise ConnectionError("no network here")

    library = ModuleType("datasets")
    library.load_dataset = load_dataset  # type: ignore[attr-defined]
    library.get_dataset_split_names = lambda *args: ["train", "extra"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.delenv("OFFMAP_DATA", raising=False)
    with pytest.raises(DataNotFoundError, match=r"no network here.* svhn/extra\.parquet"):
        load("svhn:extra")
    assert asked == [(("ufldl-stanford/svhn", "cropped_digits"), {"split": "extra"})]
