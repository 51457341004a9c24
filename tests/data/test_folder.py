"""What lies in a folder beside the images: never a class or a sample, and never untold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from offmap.data import ImageSet, Skipped, load, read_images
from offmap.errors import DataError, LeftOutWarning

Make = Callable[..., Any]
SYSTEM = [
    "__MACOSX/cat/._0.png",
    "__macosx/0.png",
    ".ipynb_checkpoints/0-checkpoint.png",
    "cat/.ipynb_checkpoints/0-checkpoint.png",
    "cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
    "$RECYCLE.BIN/0.png",
    "$Recycle.Bin/0.png",
    "lost+found/0.png",
    "LOST+FOUND/0.png",
    "System Volume Information/0.png",
    "dog/deep/Thumbs.db",
    "dog/THUMBS.DB",
    "Desktop.ini",
    "cat/._0.png",
    ".DS_Store",
]


@pytest.fixture
def animals(write_folder: Make, encode: Make, pixels: Make) -> Path:
    names = [f"{animal}/{i}.png" for animal in ("cat", "dog") for i in range(3)]
    return write_folder({name: encode(pixels(4, 4, seed=i)) for i, name in enumerate(names)})


def held(root: Path) -> ImageSet:
    data = load(root)
    assert isinstance(data, ImageSet)
    return data


def reasons(data: Any, root: Path) -> dict[str, str]:
    return {str(Path(file.path).relative_to(root)): file.reason for file in data.left_out}


@pytest.mark.parametrize("name", SYSTEM)
def test_what_systems_leave_is_no_class_and_no_sample(
    name: str, animals: Path, write_folder: Make, encode: Make, pixels: Make
) -> None:
    before = held(animals)
    write_folder({name: encode(pixels(4, 4))})  # even if it is an image
    after = held(animals)
    assert after.classes == before.classes == ("cat", "dog")
    assert torch.equal(after.labels, before.labels)  # type: ignore[arg-type]
    assert after.fingerprint == before.fingerprint
    assert after.skipped == ()
    assert before.left_out == ()
    ((place, reason),) = reasons(after, animals).items()
    assert name.startswith(place)
    assert reason == "hidden, or left by a system"
    assert after.take(2).left_out == load(animals, keep_in_memory_bytes=0).left_out
    read: list[Skipped] = []
    images = list(read_images([str(animals)], (1, 4, 4), left_out=read))
    assert len(images) == 6
    assert tuple(read) == after.left_out


def test_the_splits_are_seen_beside_what_a_system_left(
    write_folder: Make, encode: Make, pixels: Make
) -> None:
    image = encode(pixels(4, 4))
    root = write_folder({"train/a/1.png": image, "val/a/1.png": image, "__MACOSX/a/._1.png": image})
    with pytest.raises(DataError, match="are splits, not classes: train, val"):
        load(root)


@pytest.mark.parametrize("second", ["held/{}/2.png", "fresh/{}/deep/2.png"])
def test_splits_by_other_names_are_seen_by_the_classes_in_both(
    second: str, write_folder: Make, encode: Make, pixels: Make
) -> None:
    """They were two classes, ``held`` and ``train``, and every label was wrong."""
    image = encode(pixels(4, 4))
    paths = [split.format(name) for split in ("train/{}/1.png", second) for name in ("cat", "dog")]
    with pytest.raises(DataError, match=r"are splits, not classes: \w+, train; give"):
        load(write_folder(dict.fromkeys(paths, image)))


def test_a_class_may_be_called_like_a_split(write_folder: Make, encode: Make, pixels: Make) -> None:
    image = encode(pixels(4, 4))
    paths = ["train/steam/1.png", "train/electric/1.png", "bus/electric/1.png", "bus/2.png"]
    assert load(write_folder(dict.fromkeys(paths, image))).classes == ("bus", "train")


def test_files_that_are_no_images_are_told(animals: Path, encode: Make, pixels: Make) -> None:
    (animals / "cat" / "photo.HEIC").write_bytes(b"x")
    (animals / "cat" / "scan.jp2").write_bytes(b"x")
    (animals / "dog" / "LABELS").write_text("dogs")
    (animals / "dog" / "empty").touch()
    (animals / "readme.txt").write_text("animals")
    (animals / "dog" / "gone.png").symlink_to(animals / "nowhere.png")
    os.mkfifo(animals / "dog" / "pipe.png")
    (animals / "dog" / "older.v2").write_bytes(encode(pixels(4, 4)))
    (animals / "bird").mkdir()
    (animals / "cat" / "two.heic").write_bytes(b"x")
    with pytest.warns(LeftOutWarning) as told:
        data = held(animals)
    (line,) = [str(warning.message) for warning in told]  # one, of all
    assert line.startswith(f"skipped in {animals}: 2 .heic, 2 without suffix, 1 .jp2, ")
    for part in ("1 .jp2", "1 .txt", "1 link that leads nowhere", "1 class folder without images"):
        assert f", {part}, " in line
    assert f"first {animals}/cat/photo.HEIC (no image by its suffix .HEIC)" in line
    assert line.endswith("; convert .heic, .jp2 to PNG or JPEG")
    assert len(data) == 6
    assert data.classes == ("bird", "cat", "dog")
    assert data.skipped == ()
    assert reasons(data, animals) == {
        "bird": "a class folder without images",
        "cat/two.heic": "no image by its suffix .heic",
        "dog/older.v2": "an image under a suffix of none: rename it",
        "cat/photo.HEIC": "no image by its suffix .HEIC",
        "cat/scan.jp2": "no image by its suffix .jp2",
        "dog/LABELS": "no image, and no suffix",
        "dog/empty": "no image, and no suffix",
        "dog/gone.png": "a link that leads nowhere",
        "dog/pipe.png": "neither file nor folder",
        "readme.txt": "no image by its suffix .txt",
    }


def test_a_warning_points_at_the_line_of_the_user(animals: Path) -> None:
    (animals / "cat" / "photo.avif").write_bytes(b"x")
    code = f"import offmap\nfor _ in 1, 2: offmap.data.load({str(animals)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.count("skipped in") == 1  # the second time is no news
    assert done.stderr.startswith("<string>:2: LeftOutWarning: skipped in")


def test_what_is_left_out_of_a_stream_is_told_once(animals: Path) -> None:
    (animals / "cat" / "photo.avif").write_bytes(b"x")
    (animals / "cat" / "torn.png").write_bytes(b"x")
    with pytest.warns(LeftOutWarning, match=r"\S: 1 \.avif, first .*avif to PNG or JPEG$"):
        data = load(animals, keep_in_memory_bytes=0)
    with pytest.warns(
        LeftOutWarning, match=r"\S: 1 unreadable, first .*torn\.png \(Unid\S+: .*\)$"
    ):
        assert sum(len(images) for images, _ in data.batches(2)) == 6
    assert sum(len(images) for images, _ in data.batches(2)) == 6  # once


def test_an_image_without_a_suffix_is_a_sample(animals: Path, encode: Make, pixels: Make) -> None:
    (animals / "dog" / "9f86d081").write_bytes(encode(pixels(4, 4, seed=9), "JPEG"))
    data = held(animals)
    assert data.keys(6, 7) == ("dog/9f86d081",)
    assert data.left_out == ()
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_a_link_that_leads_back_is_told(animals: Path) -> None:
    (animals / "dog" / "again").symlink_to(animals / "dog")
    (animals / "all").symlink_to(animals)
    data = held(animals)
    assert data.classes == ("cat", "dog")
    assert reasons(data, animals) == dict.fromkeys(("all", "dog/again"), "a link that leads back")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_entered_is_told(animals: Path) -> None:
    locked = animals / "cat" / "locked"
    locked.mkdir(mode=0)
    assert "Permission" in reasons(held(animals), animals)["cat/locked"]


def test_a_folder_of_other_files_says_what_lies_there(write_folder: Make) -> None:
    root = write_folder({"cat/1.heic": b"x", "cat/2.heic": b"x"})
    with pytest.raises(
        DataError, match=r"holds no images: .*; skipped in .*: 2 .heic, first .*1\.heic \(no"
    ):
        load(root)


def test_classes_are_text_though_folders_are_called_by_other_bytes(
    tmp_path: Path, encode: Make, pixels: Make
) -> None:
    for name in (b"caf\xe9", b"tea"):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        for i in range(2):
            (folder / f"{i}.png").write_bytes(encode(pixels(4, 4, seed=i)))
    images = load(tmp_path)
    assert images.classes == (r"caf\xe9", "tea")
    assert images.labels is not None
    assert images.labels.tolist() == [0, 0, 1, 1]
