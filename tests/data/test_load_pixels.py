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

from offmap.data import ImageSet, StreamedSet, _decode, embedded, load, load_like, read_images
from offmap.errors import DataError, LeftOutWarning, UnknownNameError

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


def test_other_modes_of_colour_and_grey(write_folder: Make, encode: Make, pixels: Make) -> None:
    grey, colour = pixels(6, 5), pixels(6, 5, 3, seed=1)
    inks = Image.fromarray(colour).convert("CMYK")
    clear = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(pixels(6, 5, seed=2))])
    palette = Image.fromarray(colour).quantize(16)
    root = write_folder(
        {
            "1-cmyk.tif": encode(inks, "TIFF"),
            "2-grey-alpha.png": encode(clear),
            "3-palette.png": encode(palette, transparency=3),
            "4-palette.gif": encode(palette, "GIF", transparency=3),
            "5-luma.jpg": encode(Image.fromarray(colour), "JPEG", quality=100, subsampling=0),
            "6-deep.png": encode(grey.astype(np.uint16) * 257),
            "7-cmyk.jpg": encode(inks, "JPEG", quality=100, subsampling=0),
        }
    )
    images = held(root).images
    assert torch.equal(images[0], torch.from_numpy(colour).permute(2, 0, 1))
    assert torch.equal(images[1], torch.from_numpy(grey).expand(3, 6, 5))
    seen = torch.from_numpy(np.array(palette.convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(images[2], seen)
    assert torch.equal(images[3], seen)
    for jpeg in (images[4], images[6]):
        assert (jpeg.int() - images[0].int()).abs().max() < 12
    assert torch.equal(images[5], images[1])
    single = held(root, channels=1).images
    assert torch.equal(single[1, 0], torch.from_numpy(grey))
    assert torch.equal(single[5, 0], torch.from_numpy(grey))


def turned(image: Image.Image, mark: int) -> Image.Image:
    """The pixels as a camera stores them that gives this orientation mark with them."""
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return image.transpose(turns[mark]) if mark in turns else image


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("size", [None, (3, 4)])
def test_images_are_turned_as_the_camera_says(
    kind: str, size: Any, write_folder: Make, write_parquet: Make, encode: Make, pixels: Make
) -> None:
    upright = Image.fromarray(pixels(6, 9, 3))
    files = []
    for mark in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = mark
        options = {"lossless": True} if kind == "WEBP" else {}
        files.append(encode(turned(upright, mark), kind, exif=exif, **options))
    root = write_folder({f"{mark}.{kind}": file for mark, file in enumerate(files, 1)})
    expected = held(write_parquet([encode(upright)]), size=size).images[0]
    assert expected.shape[1:] == (size or (6, 9))
    parquet = write_parquet(files[::-1])  # the first is a turned one
    shape = (3, *expected.shape[1:])
    for images in (
        held(root, size=size).images,
        held(parquet, size=size).images,
        [image for _, image in read_images([str(root)], shape)],
    ):
        assert len(images) == 8
        assert all(torch.equal(image, expected) for image in images)  # type: ignore[arg-type]


@pytest.mark.parametrize("mark", range(1, 9))
def test_a_photograph_is_turned_in_every_source(
    mark: int, write_folder: Make, write_parquet: Make, encode: Make
) -> None:
    # Blocks of one colour of 16 pixels, which JPEG keeps nearly as they are.
    colours = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)
    upright = Image.fromarray(colours.repeat(16, 0).repeat(16, 1))
    exif = Image.Exif()
    exif[0x0112] = mark
    quality = {"quality": 95, "subsampling": 0}
    file = encode(turned(upright, mark), "JPEG", exif=exif, **quality)
    plain = encode(turned(upright, mark), "JPEG", **quality)
    expected = torch.from_numpy(np.array(upright)).permute(2, 0, 1).int()
    parquet = write_parquet([file])
    for data in (held(write_folder({"1.jpg": file})), held(parquet), streamed(parquet)):
        assert data.shape == (3, 32, 48)
        assert (joined(data, 1)[0].int() - expected).abs().max() < 8
    unmarked = held(write_parquet([plain], path="plain.parquet"))
    # Caches are keyed by the pixels: the same bytes of pixels with and without a mark differ.
    assert (held(parquet).fingerprint == unmarked.fingerprint) == (mark == 1)


def test_a_broken_mark_of_orientation_costs_no_image(
    write_folder: Make, encode: Make, pixels: Make
) -> None:
    image = pixels(4, 6)
    root = write_folder({"1.png": encode(image, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")})
    assert torch.equal(held(root).images[0, 0], torch.from_numpy(image))


def test_squashing_shows_all_of_an_image(
    tmp_path: Path, write_folder: Make, encode: Make, pixels: Make
) -> None:
    image = pixels(20, 31, 3)
    root = write_folder({"1.png": encode(image), "2.png": encode(pixels(10, 12, 3))})
    data = held(root, size=(10, 12), resize="squash")
    small = Image.fromarray(image).resize((12, 10), Image.Resampling.BICUBIC)
    expected = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    assert torch.equal(data.images[0], expected)
    assert torch.equal(data.images[1], torch.from_numpy(pixels(10, 12, 3)).permute(2, 0, 1))
    assert data.transform == "squashed to 10x12, bicubic; RGB"
    (_, read), _ = read_images([str(root)], (3, 10, 12), resize="squash")
    assert torch.equal(read, expected)  # type: ignore[arg-type]
    # Sets that are loaded like another one are brought to its size in the same way.
    for like in (data, streamed(root, size=(10, 12), resize="squash")):
        assert load_like(root, like).transform == data.transform
        cropped = load_like(root, like, resize="crop")
        assert cropped.transform == "scaled to cover 10x12, bicubic; centre crop 10x12; RGB"
    assert embedded("faces", size=(10, 12), limit=2, resize="squash").resize == "squash"


@pytest.mark.usefixtures("as_users_run_it")
def test_another_way_to_resize_is_refused(tmp_path: Path, pixels: Make) -> None:
    np.save(tmp_path / "set.npy", pixels(2, 4, 4))
    with pytest.raises(UnknownNameError, match=r"no resize 'squish': did you mean 'squash'\?"):
        load(tmp_path / "set.npy", size=3, resize="squish")  # type: ignore[arg-type]


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
    with pytest.warns(LeftOutWarning, match=r"skipped in \S+: 3 unreadable, first \S+2.png"):
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
    with pytest.warns(LeftOutWarning, match=r"skipped in \S+: 3 unreadable, first \S+2.png"):
        assert [len(images) for images, _ in stream.batches(2)] == [1, 1, 1]
    assert torch.equal(joined(stream, 4), data.images)
    assert stream.skipped == data.skipped
    assert stream.subset([1, 0]).skipped == data.skipped[:1]


def test_corrupt_rows_of_parquet_are_named(write_parquet: Make, encode: Make, pixels: Make) -> None:
    path = write_parquet([encode(pixels(4, 4)), None, b"no image"], ["b", "a", "b"])
    with pytest.warns(LeftOutWarning, match="2 unreadable, first .* row 1 "):
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

    def counted(item: Any, *rest: Any, **options: Any) -> Any:
        opened.append(item)
        return decode(item, *rest, **options)

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
        _decode, "_decode", lambda item, **rest: (opened.append(item), decode(item, **rest))[1]
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
