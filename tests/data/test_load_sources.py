from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import savemat

from offmap.data import ImageSet, Skipped, StreamedSet, load, read_images
from offmap.data.sources.parquet import as_raw
from offmap.errors import (
    ArgumentError,
    DataError,
    DataNotFoundError,
    LabelError,
    LeftOutWarning,
    MissingExtraError,
)

Array = NDArray[Any]
Make = Callable[..., Any]


def channels_first(images: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))


def held(*args: Any, **kwargs: Any) -> ImageSet:
    data = load(*args, **kwargs)
    assert isinstance(data, ImageSet)
    return data


def test_class_folders_give_labels_and_names(
    write_folder: Make, encode: Make, pixels: Make
) -> None:
    images = pixels(4, 5, 6, 3)
    files = [encode(image) for image in images]
    named = ["cat/1.png", "cat/deep/2.PNG", "dog/1.webp", "ant/x.bmp"]
    files[2] = encode(images[2], "WEBP", lossless=True)
    files[3] = encode(images[3], "BMP")
    root = write_folder(
        dict(zip(named, files, strict=True)) | {"cat/.hidden.png": b"", "a.txt": b""}
    )
    (root / "bee").mkdir()  # a class of which this split has no image
    with pytest.warns(LeftOutWarning, match="1 .txt, 1 class folder without images, first .*a.txt"):
        data = held(root)
    assert data.classes == ("ant", "bee", "cat", "dog")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 2, 2, 3]
    assert torch.equal(data.images, channels_first(images[[3, 0, 1, 2]]))
    assert data.name == str(root)
    assert data.transform == "size as stored; RGB"


def test_a_flat_folder_has_no_labels(write_folder: Make, encode: Make, pixels: Make) -> None:
    images = pixels(3, 4, 4)
    root = write_folder({f"{i}.png": encode(image) for i, image in enumerate(images)})
    (root / "notes").mkdir()
    data = held(str(root))
    assert data.labels is None
    assert data.classes == ()
    assert torch.equal(data.images[:, 0], torch.from_numpy(images))


def test_folders_that_could_mean_two_things_are_refused(
    write_folder: Make, encode: Make, pixels: Make
) -> None:
    image = encode(pixels(4, 4))
    splits = write_folder({"train/cat/1.png": image, "val/cat/2.png": image})
    with pytest.raises(DataError, match="splits, not classes: train, val"):
        load(splits)
    mixed = write_folder({"1.png": image})
    with pytest.raises(DataError, match="1 images beside 2 folders"):
        load(mixed)


def test_a_folder_without_images_is_refused(tmp_path: Path, write_parquet: Make) -> None:
    with pytest.raises(DataError, match=r"holds no images: looked for .*\.webp"):
        load(tmp_path)
    write_parquet([b""])
    with pytest.raises(DataError, match="write hf:"):
        load(tmp_path)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("column", ["image", "img", "picture"])
def test_parquet_with_either_kind_of_image_column(
    write_parquet: Make, encode: Make, pixels: Make, plain: bool, column: str
) -> None:
    images = pixels(10, 4, 5, 3)
    path = write_parquet(
        [encode(i) for i in images], list(range(10)), plain=plain, group=3, column=column
    )
    data = held(path)
    assert torch.equal(data.images, channels_first(images))
    assert data.labels is not None
    assert data.labels.tolist() == list(range(10))
    assert data.classes == ()


def test_parquet_class_names_come_from_the_metadata_or_from_string_labels(
    write_parquet: Make, encode: Make, pixels: Make
) -> None:
    images = [encode(i) for i in pixels(3, 4, 4)]
    named = held(write_parquet(images, [1, 0, 1], classes=["cat", "dog"]))
    assert named.classes == ("cat", "dog")
    assert named.labels is not None
    assert named.labels.tolist() == [1, 0, 1]
    spelled = held(write_parquet(images, ["dog", "ant", "dog"]))
    assert spelled.classes == ("ant", "dog")
    assert spelled.labels is not None
    assert spelled.labels.tolist() == [1, 0, 1]
    assert held(write_parquet(images)).labels is None
    assert held(write_parquet(images, [-1, -1, -1], classes=["cat"])).labels is None


def test_parquet_paths_stand_in_for_bytes(tmp_path: Path, encode: Make, pixels: Make) -> None:
    image = pixels(4, 4)
    (tmp_path / "one.png").write_bytes(encode(image))
    table = pa.table({"image": [{"bytes": None, "path": "one.png"}]})
    pq.write_table(
        table.cast(pa.schema([("image", pa.struct({"bytes": pa.binary(), "path": pa.string()}))])),
        tmp_path / "set.parquet",
    )
    assert torch.equal(held(tmp_path / "set.parquet").images[0, 0], torch.from_numpy(image))


def test_parquet_faults_are_told(
    tmp_path: Path, write_parquet: Make, encode: Make, pixels: Make
) -> None:
    image = encode(pixels(4, 4))
    with pytest.raises(LabelError, match="1 rows have no label"):
        load(write_parquet([image, image], [0, None]))
    with pytest.raises(LabelError, match="whole numbers or strings"):
        load(write_parquet([image, image], [0.5, 1.0]))
    with pytest.raises(LabelError, match="labels from 0 to 7"):
        load(write_parquet([image, image], [0, 7], classes=["cat"]))
    with pytest.raises(DataError, match="is empty"):
        load(write_parquet([]))
    pq.write_table(pa.table({"image": [1, 2]}), tmp_path / "numbers.parquet")
    with pytest.raises(DataError, match=r"its columns are image \(int64\)"):
        load(tmp_path / "numbers.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"no such thing")
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        load(tmp_path / "bad.parquet")


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y"), ("data", "labels")])
def test_npz_under_each_pair_of_keys(tmp_path: Path, pixels: Make, keys: tuple[str, str]) -> None:
    images = pixels(3, 4, 5, 3)
    np.savez(tmp_path / "set.npz", **{keys[0]: images, keys[1]: np.array([[2], [0], [1]])})
    data = held(tmp_path / "set.npz")
    assert torch.equal(data.images, channels_first(images))
    assert data.labels is not None
    assert data.labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("stored", "shape"),
    [
        ((6, 4, 5), (1, 4, 5)),
        ((6, 4, 5, 1), (1, 4, 5)),
        ((6, 1, 4, 5), (1, 4, 5)),
        ((6, 4, 5, 3), (3, 4, 5)),
        ((6, 3, 4, 5), (3, 4, 5)),
        ((6, 3, 4, 3), (3, 3, 4)),  # both could be: the last axis is
    ],
)
def test_npy_in_each_layout(
    tmp_path: Path, pixels: Make, stored: tuple[int, ...], shape: tuple[int, int, int]
) -> None:
    images = pixels(*stored)
    np.save(tmp_path / "set.npy", images)
    data = held(tmp_path / "set.npy")
    assert data.shape == shape
    assert data.labels is None
    first = shape[0] == stored[1] and stored != (6, 3, 4, 3)
    expected = images if first else images.reshape(6, *shape[1:], shape[0]).transpose(0, 3, 1, 2)
    assert torch.equal(data.images, torch.from_numpy(np.ascontiguousarray(expected)))


def test_arrays_of_other_kinds_are_refused(tmp_path: Path, pixels: Make) -> None:
    path = tmp_path / "set.npy"
    for images, message in [
        (np.zeros((2, 4, 4), np.float32), r"holds float32; .* Convert values in \[0, 1\] by"),
        (pixels(32, 32, 3), "for a single image put an axis"),
        (pixels(2, 4, 4, 5), r"has shape \(2, 4, 4, 5\)"),
    ]:
        np.save(path, images)
        with pytest.raises(DataError, match=message):
            load(path)
    np.savez(tmp_path / "set.npz", x_train=pixels(2, 4, 4))
    with pytest.raises(DataError, match=r"must hold images/labels .*; seen x_train"):
        load(tmp_path / "set.npz")


def test_labels_of_another_number_than_the_images_are_refused(tmp_path: Path, pixels: Make) -> None:
    for count in (2, 4):
        np.savez(tmp_path / "set.npz", x=pixels(3, 4, 4), y=np.zeros(count, np.int64))
        with pytest.raises(LabelError, match="for 3 images"):
            load(tmp_path / "set.npz", limit=2)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"nonsense" * 40, b"\x93NUMPY\x01\x00\x46\x00{'descr': (((" + b" " * 60],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"set{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as plain arrays"):
        load(path)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", np.array([{}, "x"], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "set.npz", x=np.array([{}], dtype=object))
    for name in ("set.npy", "set.npz"):
        with pytest.raises(DataError, match="pickled ones are refused"):
            load(tmp_path / name)


def test_the_mat_file_of_svhn(tmp_path: Path, pixels: Make) -> None:
    images = pixels(4, 6, 5, 3)
    stored = {"X": images.transpose(1, 2, 3, 0), "y": np.array([[10], [1], [9], [10]], np.uint8)}
    savemat(tmp_path / "test_32x32.mat", stored)
    data = held(tmp_path / "test_32x32.mat")
    assert torch.equal(data.images, channels_first(images))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 9, 0]


def test_names_are_looked_up_in_offmap_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_parquet: Make, encode: Make, pixels: Make
) -> None:
    monkeypatch.setenv("OFFMAP_DATA", str(tmp_path))
    images = pixels(4, 4, 4)
    for i, path in enumerate(("a/train", "a/test", "b/train", "b/val", "c/extra", "d/x", "d/y")):
        write_parquet([encode(images[i % 4])] * (i + 1), path=f"{path}.parquet")
    assert [(held(s).name, len(held(s))) for s in ("a", "a:train", "b", "b:validation", "c")] == [
        ("a:test", 2),
        ("a:train", 1),
        ("b:val", 4),
        ("b:val", 4),
        ("c:extra", 5),
    ]
    with pytest.raises(
        DataNotFoundError, match=r"d has no split 'test' or 'val'.* name one of x, y"
    ):
        load("d")
    with pytest.raises(DataNotFoundError, match="a has no split 'extra': name one of test, train"):
        load("a:extra")
    with pytest.raises(DataNotFoundError, match=r"holds a, b, c, d; .* or give a path"):
        load("e")


def test_what_is_not_there_is_told_with_a_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OFFMAP_DATA", raising=False)
    without_hub(monkeypatch)
    with pytest.raises(DataNotFoundError, match=r"OFFMAP_DATA is not set.* 'offmap\[hub\]'"):
        load("cifar10")
    with pytest.raises(DataNotFoundError, match=r"no place on the hub is known .*brendenlake"):
        load("omniglot")
    with pytest.raises(DataNotFoundError, match="does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataNotFoundError, match="no data set ''"):
        load("")
    with pytest.raises(MissingExtraError, match="datasets"):
        load("hf:owner/name")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="is of no kind that is read"):
        load(tmp_path / "notes.txt")


def test_a_bare_name_may_be_a_folder_here(
    monkeypatch: pytest.MonkeyPatch, write_folder: Make, encode: Make, pixels: Make
) -> None:
    root = write_folder({"1.png": encode(pixels(4, 4))})
    monkeypatch.chdir(root.parent)
    assert len(load("images")) == len(load("./images")) == 1


def test_a_name_that_begins_with_a_tilde_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encode: Make, pixels: Make
) -> None:
    """Programs call their copies so; a home is meant where there is a user of that name."""
    monkeypatch.chdir(tmp_path)
    for name in ("~scans/a.png", "~scan.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(encode(pixels(4, 4)))
    assert len(load("~scans")) == 1
    for spec in ("~scan.png", "~sc*.png"):
        assert [name for name, _ in read_images([spec], (1, 4, 4))] == ["~scan.png"]
    with pytest.raises(DataNotFoundError, match=r"~none-such does not exist"):
        load("~none-such/scans")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(load("~/~scans")) == 1


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    "arguments",
    [
        *({"size": size} for size in (0, (4, 5, 6), 4.0, "4", (4, 4.5))),
        *({"limit": limit} for limit in (0, 1.5, "1")),
        {"channels": 2},
    ],
)
def test_arguments_out_of_range_are_refused(
    tmp_path: Path, pixels: Make, arguments: dict[str, Any]
) -> None:
    np.save(tmp_path / "set.npy", pixels(2, 4, 4))
    with pytest.raises(ArgumentError):
        load(tmp_path / "set.npy", **arguments)


def test_the_hub_layout_from_a_local_folder(
    tmp_path: Path, write_parquet: Make, encode: Make, pixels: Make
) -> None:
    pytest.importorskip("datasets", reason="the extra 'hub' is not installed")
    images = pixels(6, 4, 4, 3)
    files = [encode(i) for i in images]
    for path in ("hub/train.parquet", "hub/test.parquet"):
        write_parquet(files, [0, 1, 1, 0, 1, 0], classes=["cat", "dog"], path=path)
    data = held(f"hf:{tmp_path / 'hub'}")
    assert data.name == f"hf:{tmp_path / 'hub'}:test"
    assert torch.equal(data.images, channels_first(images))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 1, 0, 1, 0]
    assert data.classes == ("cat", "dog")
    few = held(f"hf:{tmp_path / 'hub'}:train", limit=3)
    assert few.fingerprint == data.take(3).fingerprint
    with pytest.raises(DataNotFoundError, match="no split 'extra': name one of test, train"):
        load(f"hf:{tmp_path / 'hub'}:extra")
    with pytest.raises(DataNotFoundError, match="cannot be loaded"):
        load(f"hf:{tmp_path / 'nowhere'}")


def test_the_hub_layout_may_hold_images_as_files(
    tmp_path: Path, write_folder: Make, encode: Make, pixels: Make
) -> None:
    # The cells of such a set hold paths alone, and no image was found in them.
    pytest.importorskip("datasets", reason="the extra 'hub' is not installed")
    images = pixels(4, 4, 4, 3)
    files = [f"{split}/{animal}/1.png" for split in ("test", "train") for animal in ("cat", "dog")]
    root = write_folder(dict(zip(files, map(encode, images), strict=True)))
    data = held(f"hf:{root}")
    assert torch.equal(data.images, channels_first(images[:2]))
    assert data.classes == ("cat", "dog")
    secret = tmp_path / "secret.png"
    secret.write_bytes(encode(images[0]))
    assert as_raw({"bytes": None, "path": str(secret)}, [root]) is None


def test_streaming_begins_where_memory_ends(tmp_path: Path, pixels: Make) -> None:
    np.save(tmp_path / "set.npy", pixels(2, 4, 4))
    assert isinstance(load(tmp_path / "set.npy", keep_in_memory_bytes=32), ImageSet)
    assert isinstance(load(tmp_path / "set.npy", keep_in_memory_bytes=31), StreamedSet)
    assert isinstance(load(tmp_path / "set.npy", limit=1, keep_in_memory_bytes=31), ImageSet)


def without_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)


def test_a_link_that_leads_back_is_not_followed(
    write_folder: Make, encode: Make, pixels: Make
) -> None:
    root = write_folder({f"{c}/1.png": encode(pixels(4, 4)) for c in "ab"})
    (root / "a" / "latest").symlink_to(root / "a")
    (root / "a" / "other").symlink_to(root / "b")
    (root / "b" / "other").symlink_to(root / "a")
    found = held(root)
    assert found.labels.tolist() == [0, 0, 1, 1]  # each folder's own, and that which it links to


def test_a_link_to_nowhere_is_an_unreadable_image(
    tmp_path: Path, encode: Make, pixels: Make
) -> None:
    (tmp_path / "0.png").write_bytes(encode(pixels(4, 4)))
    (tmp_path / "1.png").symlink_to(tmp_path / "absent.png")
    for given in (f"{tmp_path}/*.png", f"{tmp_path}/1.png"):
        (_, last) = list(read_images([given], (1, 4, 4)))[-1]
        assert isinstance(last, Skipped)


def test_scoring_reads_parquet_whatever_its_labels(tmp_path: Path, encode: Make) -> None:
    image = encode(np.zeros((4, 4), dtype=np.uint8))
    pq.write_table(
        pa.table({"image": [image, image], "label": [0.5, None]}), tmp_path / "a.parquet"
    )
    assert len(list(read_images([str(tmp_path / "a.parquet")], (1, 4, 4)))) == 2
    with pytest.raises(LabelError):
        load(tmp_path / "a.parquet")


def test_a_parquet_file_reads_nothing_outside_its_folder(
    tmp_path: Path, encode: Make, pixels: Make
) -> None:
    secret, folder = tmp_path / "secret.png", tmp_path / "given"
    secret.write_bytes(encode(pixels(4, 4)))
    folder.mkdir()
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = [{"bytes": None, "path": path} for path in ("../secret.png", str(secret))]
    pq.write_table(pa.table({"image": pa.array(cells, kind)}), folder / "set.parquet")
    found = list(read_images([str(folder / "set.parquet")], (1, 4, 4)))
    assert all(isinstance(image, Skipped) for _, image in found)


@pytest.mark.parametrize(
    "names", [("Train", "Test"), ("training", "testing"), ("train", "devkit/data.mat")]
)
def test_splits_of_any_case_are_no_classes(
    names: tuple[str, str], write_folder: Make, encode: Make, pixels: Make
) -> None:
    files = [name if "." in name else f"{name}/1.png" for name in names]
    root = write_folder({name: encode(pixels(4, 4)) for name in files})
    (root / "meta").mkdir()
    with pytest.raises(DataError, match="are splits, not classes"):
        load(root)


def test_a_line_of_pixels_is_not_blown_up(write_folder: Make, encode: Make, pixels: Make) -> None:
    root = write_folder({"0.png": encode(pixels(1, 4000, 3)), "1.png": encode(pixels(8, 8, 3))})
    with pytest.warns(LeftOutWarning, match="1 unreadable"):
        found = held(root, size=224)
    assert len(found) == 1
    assert "4000x1 would become 896000x224" in found.skipped[0].reason


def test_ragged_labels_are_refused(tmp_path: Path, encode: Make, pixels: Make) -> None:
    image = encode(pixels(4, 4))
    pq.write_table(
        pa.table({"image": [image, image], "label": [[1], [1, 2]]}), tmp_path / "a.parquet"
    )
    with pytest.raises(LabelError, match="one an image; seen lists"):
        load(tmp_path / "a.parquet")
