from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.utils import RepositoryNotFoundError

from offmap.data import channel_statistics, check_inputs, load, named_sets
from offmap.data.sources.hub import choose_split
from offmap.errors import DataNotFoundError, UnknownNameError

Make = Callable[..., Any]


class NotThereError(RepositoryNotFoundError):
    """What the hub's client raises, without an answer to make it from."""

    def __init__(self) -> None:
        Exception.__init__(self, "404")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """A hub that gives one answer, or none, and what is asked of the library ``datasets``."""

    def make(answer: Exception | None, message: str = "no network here") -> list[Any]:
        calls: list[Any] = []

        def dataset_info(self: Any, repository: str, *, timeout: float) -> None:
            calls.append((repository, timeout))
            if answer is not None:
                raise answer

        def load_dataset(*args: Any, **options: Any) -> None:
            calls.append((*args, options, constants.HF_HUB_OFFLINE))
            raise ConnectionError(message)

        library = ModuleType("datasets")
        library.load_dataset = load_dataset  # type: ignore[attr-defined]
        library.get_dataset_split_names = lambda *args: ["train", "extra"]  # type: ignore[attr-defined]
        library.config = SimpleNamespace(HF_HUB_OFFLINE=False)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "datasets", library)
        monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.delenv("OFFMAP_DATA", raising=False)
        return calls

    return make


def test_every_named_set_can_be_got_somewhere() -> None:
    for name, entry in named_sets().items():
        assert entry.repository or entry.note, name
        assert (entry.mean is None) == (entry.std is None), name
        assert entry.splits, name


def test_the_table_cannot_be_changed_from_outside() -> None:
    named_sets().clear()
    assert "cifar10" in named_sets()


def test_normalization_is_in_units_of_the_range() -> None:
    mean, std = channel_statistics("cifar10")
    assert [round(255 * x, 1) for x in mean] == [125.3, 123.0, 113.9]
    assert [round(255 * x, 1) for x in std] == [63.0, 62.1, 66.7]
    assert channel_statistics("imagenet") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with pytest.raises(UnknownNameError, match=r"'usps': known are those of cifar10, cifar100"):
        channel_statistics("usps")
    with pytest.raises(UnknownNameError, match=r"did you mean 'imagenet'\? known are"):
        channel_statistics("ImageNet1k")


def test_a_named_set_goes_to_its_place_on_the_hub(hub: Callable[..., list[Any]]) -> None:
    calls = hub(None)
    with pytest.raises(DataNotFoundError, match=r"no network here.* svhn/extra\.parquet"):
        load("svhn:extra")
    place = ("ufldl-stanford/svhn", "cropped_digits")
    assert calls[1:] == [(*place, {"split": "extra"}, False)]


def test_a_hub_that_does_not_answer_is_asked_once_and_briefly(
    hub: Callable[..., list[Any]],
) -> None:
    calls = hub(TimeoutError("timed out"), "no copy")
    start = time.monotonic()
    with pytest.raises(DataNotFoundError, match=r"no answer within 2 seconds .*no copy is in its"):
        load("hf:owner/name:train")
    assert time.monotonic() - start < 2
    # Then its libraries look at the copies on this disk alone.
    assert calls == [("owner/name", 2.0), ("owner/name", None, {"split": "train"}, True)]
    assert not constants.HF_HUB_OFFLINE
    assert not sys.modules["datasets"].config.HF_HUB_OFFLINE


def test_a_copy_is_read_without_the_hub(hub: Callable[..., list[Any]]) -> None:
    hub(TimeoutError("timed out"))
    with pytest.raises(DataNotFoundError, match=r"no split 'test' or 'val'.*name one of extra"):
        load("hf:owner/name")


def test_a_repository_that_is_not_there_is_told_at_once(hub: Callable[..., list[Any]]) -> None:
    calls = hub(NotThereError())
    with pytest.raises(DataNotFoundError, match=r"did you mean 'uoft-cs/cifar100'\?"):
        load("hf:uoft-cs/cifar-100")
    assert calls == [("uoft-cs/cifar-100", 2.0)]


def test_two_validation_splits_are_told_apart_by_name_alone() -> None:
    # One of the two was taken in silence, by their order.
    splits = ["train", "validation", "val"]
    for name in ("val", "validation"):
        assert choose_split(splits, name, "here") == name
    for name in (None, "valid"):
        with pytest.raises(DataNotFoundError, match="has splits val and validation, and"):
            choose_split(splits, name, "here")
    assert choose_split([*splits, "test"], None, "here") == "test"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifra10", "did you mean 'cifar10'"),
        ("CIFAR-100", "did you mean 'cifar100'"),
        ("fashionmnist:train", "did you mean 'fashion_mnist'"),
        ("digits", "did you mean 'embedded:digits'"),
        ("noise:gaussian", "load it by load_like"),
    ],
)
def test_a_misspelt_name_asks_no_hub_and_says_what_was_meant(
    name: str, hint: str, hub: Callable[..., list[Any]]
) -> None:
    calls = hub(None)
    with pytest.raises(DataNotFoundError, match=f"no data set .*{hint}"):
        load(name)
    assert calls == []


def test_a_misspelt_path_says_which_was_meant(
    write_folder: Make, encode: Make, pixels: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = encode(pixels(4, 4))
    root = write_folder({"test/a/1.png": image, "train/a/1.png": image})
    meant = rf"{root}/tset does not exist: did you mean 'test'\? look at the path"
    for spec in (root / "tset", f"{root}/tset/a"):
        with pytest.raises(DataNotFoundError, match=meant):
            load(spec)
    with pytest.raises(DataNotFoundError, match=r"tset does not exist: did you mean 'test'\? give"):
        check_inputs([f"{root}/tset"])
    with pytest.raises(DataNotFoundError, match=r"\*\.jpg is no file or folder, and matches none"):
        check_inputs([f"{root}/*.jpg"])
    monkeypatch.chdir(root)
    with pytest.raises(DataNotFoundError, match=r"no data set 'trian': did you mean 'train'\?"):
        load("trian")
    with pytest.raises(DataNotFoundError, match=r"does not exist: look at the path"):
        load("./nothing-like-it")
