"""The default device and type of torch, which a program may set for its own tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import offmap
from offmap import data
from offmap.sklearn import OODDetector
from offmap.stats import Bank

pytestmark = pytest.mark.filterwarnings("ignore::offmap.errors.ChanceWarning")
DETECTORS = [
    "vim", "auto", "odin", "knn(k=3)", "ash-s", "temperaturescaled", "gram", "dice", "corp",
    "featurenorm", "nac", "gmm", "openmax",
]  # fmt: skip


@pytest.fixture(params=["device", "dtype"])
def default(request: pytest.FixtureRequest) -> Iterator[str]:
    """On a device that holds no values, whatever is made without a word fails when it is read."""
    kind: str = request.param
    if kind == "device":
        torch.set_default_device("meta")
    else:
        torch.set_default_dtype(torch.float64)
    yield kind
    torch.set_default_device("cpu")
    torch.set_default_dtype(torch.float32)


def images(n: int, seed: int) -> tuple[Tensor, Tensor]:
    drawn = np.random.default_rng(seed).integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)
    return torch.from_numpy(drawn), torch.from_numpy(np.arange(n) % 4)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    ).eval()  # fmt: skip


def verdict(network: nn.Module, detector: str, folder: Path) -> offmap.Verdict:
    guard = offmap.Guard(network, detector).fit(images(60, 0)).calibrate(images(40, 1))
    guard.save(folder)
    return offmap.load(folder, network)(images(7, 2)[0].numpy())


def tensors(of: offmap.Verdict) -> list[Tensor]:
    return [of.labels, of.scores, of.p_values, of.is_ood]


@pytest.fixture(scope="module")
def expected(
    network: nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, offmap.Verdict]:
    folder = tmp_path_factory.mktemp("expected")
    return {name: verdict(network, name, folder / str(i)) for i, name in enumerate(DETECTORS)}


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_guard_is_the_same(
    detector: str,
    network: nn.Module,
    expected: dict[str, offmap.Verdict],
    default: str,
    tmp_path: Path,
) -> None:
    found = verdict(network, detector, tmp_path / "guard")
    for ours, usual in zip(tensors(found), tensors(expected[detector]), strict=True):
        assert ours.device.type == "cpu"
        assert ours.dtype == usual.dtype
        assert torch.equal(ours, usual)


def test_folders_and_evaluations_go_on(network: nn.Module, default: str, tmp_path: Path) -> None:
    x, y = images(40, 3)
    for i, (image, label) in enumerate(zip(x, y.tolist(), strict=True)):
        path = tmp_path / "photos" / "abcd"[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    photos = data.load(str(tmp_path / "photos"), size=8)
    assert sorted(photos.labels.tolist()) == sorted(y.tolist())
    noise = data.noise("gaussian", 20, (3, 8, 8))
    found: Any = offmap.evaluate(
        network, train=photos, id_test=images(30, 4), ood={"noise": noise},
        detectors=["msp", "knn(k=3)", "residual"], show_progress=False,
    )  # fmt: skip
    assert all(0 <= found.get(d, "noise") <= 1 for d in found.detectors)


def test_arrays_stay_where_they_are(default: str) -> None:
    x = images(50, 5)[0].flatten(1)[:, :6].double().numpy()
    scores = OODDetector("knn(k=3)").fit(x).score_samples(x)
    assert scores.shape == (50,)
    bank = Bank.of(torch.from_numpy(x).float(), size=9)
    assert bank.rows.device.type == "cpu"
    assert offmap.guard.decide.alarm_threshold([float(i) for i in range(99)], 0.05) == 94.0
