"""From uint8 images to what a network was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import offmap
from offmap import demo
from offmap._utils import precision
from offmap.data import ImageSet, embedded
from offmap.errors import ArgumentError, InputsWarning, ShapeError
from offmap.forward import Normalization, Probe

PER_IMAGE = Normalization(per_image=True)


def slow_per_image(images: np.ndarray) -> np.ndarray:
    """Image by image and in float64, from grey levels."""
    rows = []
    for image in images.astype(np.float64):
        values = image.ravel()
        mean = sum(values) / len(values)
        deviation = np.sqrt(sum((values - mean) ** 2) / len(values))
        rows.append((image - mean) / max(deviation, 1 / np.sqrt(len(values))))
    return np.stack(rows)


def pixels(seed: int = 0, contrast: int = 255) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, contrast + 1, (6, 3, 5, 4), generator=generator).byte()


@pytest.mark.parametrize("contrast", [255, 1])
def test_each_image_by_its_own_mean_and_deviation(contrast: int) -> None:
    images = pixels(contrast=contrast)
    found = PER_IMAGE(images)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), slow_per_image(images.numpy()), rtol=1e-5, atol=1e-6)


def test_one_pixel_of_another_colour_meets_the_floor_of_the_deviation() -> None:
    images = torch.zeros(1, 1, 40, 40, dtype=torch.uint8)
    images[0, 0, 3, 3] = 1  # the deviation is 1/40 less a part in 3,200, and the floor is 1/40
    found = PER_IMAGE(images).numpy()
    np.testing.assert_allclose(found, slow_per_image(images.numpy()), rtol=1e-5)
    assert found.max() == pytest.approx(40 * (1 - 1 / 1600), rel=1e-6)


@pytest.mark.parametrize("side", [1, 32, 224])
@given(colour=st.integers(0, 255))
def test_an_image_of_one_colour_becomes_zeros(side: int, colour: int) -> None:
    images = torch.full((1, 3, side, side), colour, dtype=torch.uint8)
    assert not PER_IMAGE(images).any()
    assert not PER_IMAGE.of_unit(images.float() / 255).any()


def test_images_in_the_unit_range_become_the_same() -> None:
    assert torch.allclose(PER_IMAGE.of_unit(pixels().float() / 255), PER_IMAGE(pixels()), atol=1e-5)


def test_an_image_does_not_depend_on_its_batch() -> None:
    alone = torch.cat([PER_IMAGE(row[None]) for row in pixels()])
    assert torch.equal(PER_IMAGE(pixels()), alone)


@pytest.mark.parametrize(
    "made",
    [
        PER_IMAGE,
        Normalization(),
        Normalization((0.5, 0.4, 0.3), (0.2,)),
        Normalization(torch.tensor([0.5, 0.4, 0.3]), np.array([0.2], np.float32)),
    ],
)
def test_a_record_is_plain_and_gives_it_back(made: Normalization) -> None:
    again = Normalization(**json.loads(json.dumps(made.record())))
    assert again.record() == made.record()
    assert torch.equal(again(pixels()), made(pixels()))


def test_its_text_is_read_and_both_kinds_at_once_are_refused() -> None:
    assert Normalization.parse("per_image") == PER_IMAGE
    with pytest.raises(ArgumentError, match="or per_image; 'per_pixel' is not that"):
        Normalization.parse("per_pixel")
    with pytest.raises(ArgumentError, match="give no mean and std with it"):
        Normalization((0.5,), per_image=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.5/0", "deviations above 0"),
        ("0.5/-0.2", "deviations above 0"),
        ("nan/0.2", "means are numbers"),
        ("-2/0.2", "-2 is none"),
        ("123.7,116.3,103.5/58.4,57.1,57.4", r"123\.7 is none: divide both by 255"),
    ],
)
def test_means_and_deviations_that_no_image_has_are_refused(text: str, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Normalization.parse(text)
    for value in (0.5, None, "half"):  # a number alone is no sequence
        with pytest.raises(ArgumentError, match=r"mean must be numbers, one a channel or one for"):
            Normalization(value)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="means are numbers"):
        Normalization((), (0.5,))


@pytest.fixture(scope="module")
def known() -> ImageSet:
    return embedded("digits").only(range(8)).take(600)


@pytest.fixture(scope="module")
def guard(known: ImageSet) -> offmap.Guard:
    made = offmap.Guard(demo.shipped(), "energy", normalization=PER_IMAGE)
    return made.fit(known.take(300)).calibrate([known.images[300:]], 0.1)


def test_a_probe_standardises_uint8_images_alone(known: ImageSet) -> None:
    with Probe(demo.shipped(), normalization=PER_IMAGE) as probe:
        raw, ready = probe(known.images), probe(PER_IMAGE(known.images))
    assert torch.equal(raw.logits, ready.logits)


def test_a_guard_is_read_back_with_it(guard: offmap.Guard, known: ImageSet, tmp_path: Path) -> None:
    guard.save(tmp_path)
    assert json.loads((tmp_path / "guard.json").read_text())["normalization"] == {"per_image": True}
    again = offmap.load(tmp_path, demo.shipped())
    assert torch.equal(again(known.images).scores, guard(known.images).scores)


def test_a_graph_standardises_as_the_guard_does(
    guard: offmap.Guard, known: ImageSet, tmp_path: Path
) -> None:
    runtime = pytest.importorskip("onnxruntime")
    offmap.export(guard, tmp_path / "guard.onnx", example=known.images[:8])
    session = runtime.InferenceSession(str(tmp_path / "guard.onnx"))
    (score,) = session.run(["score"], {"images": known.images.numpy()})
    np.testing.assert_allclose(score, guard(known.images).scores.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("made", [Normalization((0.5,), (2.0,)), Normalization(per_image=True)])
def test_a_record_gives_the_same_normalization_back(made: Normalization) -> None:
    assert Normalization(**json.loads(json.dumps(made.record()))) == made


class NoFloat64(TorchDispatchMode):
    """No tensor is made in float64, as on Apple's devices."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        assert getattr(out, "dtype", None) != torch.float64, func
        return out


def test_devices_without_float64_run_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    each = Normalization(per_image=True)
    large = torch.full((1, 3, 512, 512), 201, dtype=torch.uint8)  # of one colour
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(4, 5))
    usual = each(images)
    monkeypatch.setattr(precision, "_NARROW", {"cpu"})
    with NoFloat64():
        assert each(large).abs().max() < 1e-4
        torch.testing.assert_close(each(images), usual, rtol=1e-5, atol=1e-5)
        with Probe(network, normalization=each) as probe:
            probe(images)
            assert probe.knows_head


def test_grey_images_without_an_axis_of_channels_are_normalised() -> None:
    grey = pixels()[:, 0]
    one = Normalization((0.3,), (0.2,))
    assert torch.allclose(one(grey), (grey / 255 - 0.3) / 0.2, atol=1e-6)
    np.testing.assert_allclose(PER_IMAGE(grey), slow_per_image(grey.numpy()), rtol=1e-5, atol=1e-6)
    with pytest.raises(ShapeError, match="have 1 channels"):
        Normalization((0.3, 0.2, 0.1))(grey)


@pytest.mark.parametrize("axis", [1, 2])
def test_videos_are_normalised_along_their_channels(axis: int) -> None:
    frames = torch.stack([pixels(seed) for seed in range(4)], dim=3 - axis)
    of_three = Normalization((0.1, 0.5, 0.9), (0.1, 0.2, 0.3))
    for frame, found in zip(
        frames.unbind(3 - axis), of_three(frames).unbind(3 - axis), strict=True
    ):
        assert torch.allclose(found, of_three(frame))
    found = PER_IMAGE(frames).numpy()
    np.testing.assert_allclose(found, slow_per_image(frames.numpy()), rtol=1e-5, atol=1e-5)
    with pytest.raises(ShapeError, match="two axes of 3"):
        of_three(frames[:, :3, :3])


def test_whole_numbers_that_are_hardly_pixels_are_told_of() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(20, 3))
    with pytest.warns(InputsWarning, match="of 0 and 1 alone"):
        Probe(network)(torch.randint(0, 2, (6, 4, 5)).byte())
