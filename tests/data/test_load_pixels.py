from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from PIL import Image

from offmap.data import ImageSet, StreamedSet, _decode, load
from offmap.errors import DataError, UnknownNameError

Make = Callable[..., Any]


def held(*args: Any, **kwargs: Any) -> ImageSet:
    data = load(*args, **kwargs)
    assert isinstance(data, ImageSet)
    return data


def streamed(*args: Any, **kwargs: Any) -> StreamedSet:
    data = load(*args, **kwargs, keep_in_memory_bytes=0)
    assert isinstance(data, StreamedSet)
    return data


def joined(data: ImageSet | StreamedSet, batch_size: int, start: int = 0) -> torch.Tensor:
    return torch.cat([images for images, _ in data.batches(batch_size, start)])


def test_unequal_sizes_need_a_size(write_folder: Make, encode: Make, pixels: Make) -> None:
    root = write_folder({"1.png": encode(pixels(6, 4)), "2.png": encode(pixels(5, 9))})
    with pytest.raises(DataError, match="differ in size: seen 6x4 and 5x9; pass size"):
        load(root)
    with pytest.raises(DataError, match="differ in size"):
        list(streamed(root).batches(2))
    data = held(root, size=4)
    assert data.shape == (1, 4, 4)
    assert data.transform == "shorter side to 4, bicubic; centre crop 4; grey"
    wide = held(root, size=(3, 7))
    assert wide.shape == (1, 3, 7)
    assert wide.transform == "scaled to cover 3x7, bicubic; centre crop 3x7; grey"


def test_resizing_is_pil_bicubic_then_a_centre_crop(
    tmp_path: Path, encode: Make, pixels: Make
) -> None:
    image = pixels(20, 31, 3)
    np.save(tmp_path / "set.npy", image[None])
    small = Image.fromarray(image).resize((16, 10), Image.Resampling.BICUBIC)  # 15.5 rounds to 16
    expected = np.asarray(small)[:, 3:13]
    assert (
        held(tmp_path / "set.npy", size=10).images[0].permute(1, 2, 0).numpy() == expected
    ).all()


def test_what_has_the_size_keeps_every_bit(tmp_path: Path, pixels: Make) -> None:
    images = pixels(3, 8, 8, 3)
    np.save(tmp_path / "set.npy", images)
    assert held(tmp_path / "set.npy", size=8).fingerprint == held(tmp_path / "set.npy").fingerprint
    np.save(tmp_path / "tall.npy", np.pad(images, ((0, 0), (2, 2), (0, 0), (0, 0))))
    cut = held(tmp_path / "tall.npy", size=8)  # the shorter side fits: cut, not resampled
    assert cut.fingerprint == held(tmp_path / "set.npy").fingerprint


def test_grey_becomes_colour_by_repetition_and_colour_grey_by_pil(
    tmp_path: Path, pixels: Make
) -> None:
    grey, colour = pixels(2, 4, 4), pixels(2, 4, 4, 3)
    np.save(tmp_path / "grey.npy", grey)
    np.save(tmp_path / "colour.npy", colour)
    repeated = held(tmp_path / "grey.npy", channels=3).images
    assert torch.equal(repeated, torch.from_numpy(grey)[:, None].expand(2, 3, 4, 4))
    luma = np.stack([np.asarray(Image.fromarray(x).convert("L")) for x in colour])
    flattened = held(tmp_path / "colour.npy", channels=1)
    assert torch.equal(flattened.images[:, 0], torch.from_numpy(luma))
    assert flattened.transform == "size as stored; grey"


def test_one_colour_image_makes_all_colour(write_folder: Make, encode: Make, pixels: Make) -> None:
    grey = {f"{i}.png": encode(pixels(4, 4, seed=i)) for i in range(5)}
    root = write_folder(grey)
    assert held(root).shape == (1, 4, 4)
    write_folder({"9.png": encode(pixels(4, 4, 3))})
    data = held(root)
    assert data.shape == (3, 4, 4)
    assert torch.equal(data.images[0, 0], data.images[0, 2])
    assert not torch.equal(data.images[5, 0], data.images[5, 2])
    assert streamed(root).shape == (3, 4, 4)


def test_pixels_of_every_mode(write_folder: Make, encode: Make, pixels: Make) -> None:
    deep = np.array([[0, 257, 65535], [128, 129, 32896]], np.uint16)
    clear = pixels(2, 3, 4)
    palette = Image.fromarray(pixels(2, 3)).convert("P")
    root = write_folder(
        {
            "1-deep.png": encode(deep),
            "2-clear.png": encode(clear),
            "3-palette.png": encode(palette, transparency=bytes(range(256))),
            "4-bits.png": encode(Image.fromarray(pixels(2, 3) > 127)),
            "5-deep.tif": encode(deep, "TIFF"),
        }
    )
    images = held(root).images
    assert images[0, 0].tolist() == [[0, 1, 255], [0, 1, 128]]
    assert torch.equal(images[1], torch.from_numpy(clear)[:, :, :3].permute(2, 0, 1))
    assert torch.equal(images[2, 0], torch.from_numpy(pixels(2, 3)))
    assert torch.equal(images[3, 0], torch.from_numpy(np.uint8(255) * (pixels(2, 3) > 127)))
    assert torch.equal(images[4], images[0])


def test_corrupt_images_are_left_out_and_recorded(
    write_folder: Make, encode: Make, pixels: Make
) -> None:
    whole = [encode(pixels(8, 8, seed=i)) for i in range(4)]
    root = write_folder(
        {
            "a/1.png": whole[0],
            "a/2.png": whole[1][:-40],
            "b/3.png": whole[2],
            "b/4.jpg": b"",
            "b/5.png": whole[3],
            "b/6.tif": encode(pixels(8, 8).astype(np.float32), "TIFF"),
        }
    )
    data = held(root)
    assert len(data) == 3
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 1]
    assert [Path(skipped.path).name for skipped in data.skipped] == ["2.png", "4.jpg", "6.tif"]
    assert "truncated" in data.skipped[0].reason
    assert "cannot identify" in data.skipped[1].reason
    assert "pixels are floats" in data.skipped[2].reason
    assert "0x" not in data.skipped[1].reason  # the same from run to run
    stream = streamed(root)
    assert len(stream) == 6
    assert stream.skipped == ()
    assert [len(images) for images, _ in stream.batches(2)] == [1, 1, 1]
    assert torch.equal(joined(stream, 4), data.images)
    assert stream.skipped == data.skipped
    assert stream.subset([1, 0]).skipped == data.skipped[:1]


def test_corrupt_rows_of_parquet_are_named(write_parquet: Make, encode: Make, pixels: Make) -> None:
    path = write_parquet([encode(pixels(4, 4)), None, b"no image"], ["b", "a", "b"])
    data = held(path)
    assert [skipped.path for skipped in data.skipped] == [f"{path} row 1", f"{path} row 2"]
    assert data.skipped[0].reason == "ValueError: no image is stored here"
    assert data.labels is not None
    assert data.labels.tolist() == [1]


def test_nothing_but_corrupt_images_is_an_error(
    write_folder: Make, encode: Make, pixels: Make
) -> None:
    cut = encode(pixels(8, 8))[:-40]  # its header can be read
    with pytest.raises(DataError, match=r"none of the 2 images .* truncated"):
        load(write_folder({"1.png": cut, "2.png": cut}))
    with pytest.raises(DataError, match=r"none of the 2 images .* cannot identify"):
        load(write_folder({"1.png": b"", "2.png": b""}))


def test_the_limit_is_chosen_before_decoding(
    monkeypatch: pytest.MonkeyPatch, write_parquet: Make, encode: Make, pixels: Make
) -> None:
    images = pixels(40, 4, 4, 3)
    path = write_parquet([encode(image) for image in images], list(range(40)))
    whole, opened = held(path), []
    decode = _decode._decode

    def counted(item: Any, *rest: Any) -> Any:
        opened.append(item)
        return decode(item, *rest)

    monkeypatch.setattr(_decode, "_decode", counted)
    few = held(path, limit=7, seed=3)
    assert len(opened) == 7
    taken = whole.take(7, seed=3)
    assert few.fingerprint == taken.fingerprint
    assert torch.equal(few.labels, taken.labels)  # type: ignore[arg-type]
    assert few.name == taken.name == f"{path}[7 of 40, seed 3]"
    assert held(path, limit=50).name == str(path)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12, deadline=None
)
@given(batch_size=st.integers(1, 50), start=st.integers(0, 45), seed=st.integers(0, 3))
def test_streamed_equals_in_memory_bit_for_bit(
    write_parquet: Make, encode: Make, pixels: Make, batch_size: int, start: int, seed: int
) -> None:
    images = pixels(41, 9, 7, 3)
    labels = [i % 3 for i in range(41)]
    path = write_parquet([encode(i) for i in images], labels, classes=["a", "b", "c"], group=6)
    memory, stream = held(path, size=5), streamed(path, size=5)
    sets = [(memory, stream), (memory.take(20, seed), stream.take(20, seed))]
    sets += list(zip(memory.split(0.3, seed), stream.split(0.3, seed), strict=True))
    sets += [(memory.only("ca"), stream.only("ca"))]
    sets += [(memory.subset([40, 3, 17, 3]), stream.subset([40, 3, 17, 3]))]
    for a, b in sets:
        assert (a.name, a.classes, a.transform, a.shape) == (
            b.name,
            b.classes,
            b.transform,
            b.shape,
        )
        assert len(a) == len(b)
        for (x, y), (u, v) in zip(
            a.batches(batch_size, start), b.batches(batch_size, start), strict=True
        ):
            assert torch.equal(x, u)
            assert u.is_contiguous()
            assert torch.equal(y, v)  # type: ignore[arg-type]


def test_a_stream_can_be_left_early(write_folder: Make, encode: Make, pixels: Make) -> None:
    image = encode(pixels(4, 4))
    stream = streamed(write_folder({f"{i:04}.png": image for i in range(500)}))
    first = next(iter(stream.batches(3)))[0]
    assert len(first) == 3
    assert len(joined(stream, 64)) == 500
    assert stream.fingerprint is None


def test_a_stream_looks_only_a_little_ahead(
    monkeypatch: pytest.MonkeyPatch, write_parquet: Make, encode: Make, pixels: Make
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    stream = streamed(write_parquet([encode(pixels(4, 4))] * 400), size=4, channels=1)
    opened: list[Any] = []
    decode = _decode._decode
    monkeypatch.setattr(
        _decode, "_decode", lambda item, *rest: (opened.append(item), decode(item, *rest))[1]
    )
    batches = stream.batches(8)
    next(batches)
    assert 8 <= len(opened) <= 5 * 16


def test_embedded_sets_load_by_name() -> None:
    data = held("embedded:digits", limit=10, size=16, channels=3)
    assert data.shape == (3, 16, 16)
    assert data.name == "embedded:digits[10 of 1797, seed 0]"
    with pytest.raises(UnknownNameError, match=r"'digit': did you mean 'digits'\? there are brick"):
        load("embedded:digit")
