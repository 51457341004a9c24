from __future__ import annotations

import socket
import sys
from typing import Any

import numpy as np
import pytest
import torch

from offmap.data import EMBEDDED, embedded
from offmap.errors import ArgumentError, UnknownNameError


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a socket nor the library with which scikit-image downloads."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setitem(sys.modules, "pooch", None)


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize(("size", "channels"), [(8, 1), (28, 3), ((16, 24), None), (None, 1)])
def test_every_set_in_every_size(name: str, size: Any, channels: int | None) -> None:
    data = embedded(name, size=size, channels=channels, limit=80)
    assert data.images.dtype == torch.uint8
    assert data.shape[1:] == {8: (8, 8), 28: (28, 28), (16, 24): (16, 24)}.get(size, data.shape[1:])
    assert data.shape[0] == (channels or (3 if name == "photographs" else 1))
    assert data.skipped == ()
    assert len(data) == 80
    # Something is to be seen in most of them.
    spread = data.images.float().flatten(1).std(dim=1)
    assert (spread > 4).float().mean() > 0.6


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    data, found = embedded("digits"), load_digits()
    assert data.shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert data.labels is not None
    assert data.labels.tolist() == found.target.tolist()
    # One of the 17 grey levels is 255/16 apart from the next: all can be told back.
    assert (np.rint(data.images[:, 0].double().numpy() * 16 / 255) == found.images).all()
    assert data.images.max() == 255


def test_faces_are_the_first_hundred() -> None:
    data = embedded("faces")
    assert len(data) == 100
    assert data.shape == (1, 25, 25)
    assert data.labels is None


def test_patches_do_not_overlap_and_are_labelled_by_picture() -> None:
    textures = embedded("textures", size=32)
    assert textures.classes == ("brick", "grass", "gravel")
    assert textures.labels is not None
    assert textures.labels.bincount().tolist() == [256, 256, 256]
    brick = embedded("brick", size=32)
    assert textures.only(["brick"]).fingerprint == brick.fingerprint
    rows = brick.images.reshape(16, 16, 32, 32).permute(0, 2, 1, 3).reshape(512, 512)
    from skimage import data as pictures

    assert (rows.numpy() == pictures.brick()).all()


def test_small_patches_are_shrunk_from_larger_ones() -> None:
    assert embedded("grass", size=8).transform == (
        "patches of 32x32; shorter side to 8, bicubic; centre crop 8; grey"
    )
    assert embedded("grass", size=64).transform.startswith("patches of 64x64")
    assert len(embedded("grass", size=8)) == len(embedded("grass", size=32))


def test_the_limit_is_seeded() -> None:
    few = embedded("faces", limit=50, seed=2)
    assert few.fingerprint == embedded("faces").take(50, seed=2).fingerprint
    assert few.name == "embedded:faces[50 of 100, seed 2]"


def test_errors_say_what_there_is() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no embedded set 'letters': .*there are brick, digits"
    ):
        embedded("letters")
    with pytest.raises(ArgumentError, match="as large as 600x600: ask for a smaller size"):
        embedded("text", size=600)
