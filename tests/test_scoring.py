"""Verdicts on files: each image once, in order, whatever interrupts the run."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import offmap
from offmap import demo
from offmap.data import Skipped, read_images
from offmap.errors import (
    ArgumentError,
    DataNotFoundError,
    InputsWarning,
    NotFittedError,
    StoreError,
)
from offmap.guard.files import COLUMNS, Summary, score_files
from offmap.networks import DigitsCNN


@pytest.fixture(scope="module")
def guard() -> offmap.Guard:
    sets = demo.digits_data()
    guard = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    return guard.fit(sets.train).calibrate(sets.calibration)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """30 known digits in one folder, 20 textures in another below it, and a broken file."""
    sets = demo.digits_data()
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for i in range(30):
        Image.fromarray(sets.test.images[i, 0].numpy()).save(folder / f"{i:02}.png")
    for i in range(20):
        pixels = sets.ood["far"]["textures"].images[i, 0].numpy()
        Image.fromarray(pixels).save(folder / "deep" / f"{i:02}.png")
    (folder / "15b.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not an image")
    return folder


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_row_for_every_file(guard: offmap.Guard, photos: Path, suffix: str) -> None:
    out = photos.parent / f"verdicts{suffix}"
    summary = score_files(guard, [str(photos)], out, batch_size=8)
    rows = rows_of(out)
    assert [row["path"] for row in rows] == sorted(str(p) for p in photos.rglob("*.png"))
    assert tuple(rows[0]) == COLUMNS
    assert (summary.images, summary.unreadable) == (51, 1)
    assert summary.unknown == sum(str(row["is_ood"]) == "True" for row in rows)
    (broken,) = (row for row in rows if row["error"])
    assert broken["path"].endswith("15b.png")
    assert not broken["answer"]
    assert not list(photos.parent.glob(".*"))


@pytest.mark.skipif(sys.platform == "win32", reason="a drive is no part of an address")
def test_a_folder_by_its_address_has_the_rows_of_the_folder(
    guard: offmap.Guard, photos: Path
) -> None:
    here, there = photos.parent / "here.jsonl", photos.parent / "there.jsonl"
    summary = score_files(guard, [str(photos)], here, batch_size=8)
    by_address = score_files(guard, [f"file://{photos}"], there, batch_size=8)
    assert (by_address.images, by_address.unreadable) == (summary.images, summary.unreadable)
    assert [skipped.path for skipped in by_address.left_out] == [f"file://{photos}/notes.txt"]
    rows = [row | {"path": row["path"].removeprefix("file://")} for row in rows_of(there)]
    for row, of_here in zip(rows, rows_of(here), strict=True):
        if row["error"]:  # the decoder is given bytes, and has no path to name
            row["error"] = f"{row['error']} {row['path']!r}"
        assert row == of_here


def test_rows_are_the_guards_verdicts(guard: offmap.Guard, photos: Path) -> None:
    out = photos.parent / "v.jsonl"
    score_files(guard, [str(photos / "deep")], out, batch_size=7)
    sets = demo.digits_data()
    expected = guard(sets.ood["far"]["textures"].images[:20]).to_dict()
    rows = rows_of(out)
    assert [row["answer"] for row in rows] == expected["answer"]
    assert np.allclose([row["score"] for row in rows], expected["score"], rtol=1e-5)


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_images_are_resized_as_those_that_the_guard_was_fitted_on(
    resize: Any, tmp_path: Path
) -> None:
    (tmp_path / "wide").mkdir()
    generator = np.random.default_rng(0)
    for i in range(40):
        pixels = generator.integers(0, 256, (8, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "wide" / f"{i:02}.png")
    images = offmap.data.load(tmp_path / "wide", size=8, resize=resize)
    assert isinstance(images, offmap.data.ImageSet)
    guard = offmap.Guard(demo.shipped(), "entropy", normalization=demo.NORMALIZATION)
    first, second = images.split(0.5)
    guard.fit(first).calibrate(second).save(tmp_path / "guard")
    loaded = offmap.load(tmp_path / "guard", demo.shipped())
    assert loaded.input_resize == resize
    score_files(loaded, [str(tmp_path / "wide")], tmp_path / "v.jsonl", show_progress=False)
    scores = [row["score"] for row in rows_of(tmp_path / "v.jsonl")]
    assert scores == pytest.approx(guard(images.images).scores.tolist(), rel=1e-5)


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_one_file_has_one_score_however_it_is_given(resize: Any, tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    generator = np.random.default_rng(0)
    for i in range(40):
        pixels = generator.integers(0, 256, (8, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "wide" / f"{i:02}.png")
    deep = generator.integers(0, 65536, (20, 8), dtype=np.uint16)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held on its side
    Image.fromarray(deep).save(tmp_path / "wide" / "40.png", exif=turned)
    images = offmap.data.load(tmp_path / "wide", size=8, channels=1, resize=resize)
    assert isinstance(images, offmap.data.ImageSet)
    guard = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    first, second = images.split(0.5)
    guard.fit(first).calibrate(second)
    expected = guard(images.images).scores
    pictures = [Image.open(path) for path in sorted((tmp_path / "wide").glob("*.png"))]
    assert torch.equal(guard(tmp_path / "wide").scores, expected)
    assert torch.equal(guard(pictures).scores, expected)
    assert pictures[-1].size == (8, 20), "the picture of the user stays as it was"
    assert torch.allclose(guard(pictures[-1]).scores, expected[-1:], rtol=1e-5)
    (tmp_path / "fresh").mkdir()
    pictures[0].rotate(90, expand=True).save(tmp_path / "fresh" / "0.png")
    assert guard.check(str(tmp_path / "fresh"), ood=True).samples == 1  # brought to the size too


_ELSEWHERE = """
import sys, offmap
from PIL import Image
from offmap import demo
folder, photos = sys.argv[1:]
guard = offmap.load(folder, demo.shipped())
pictures = [Image.open(f"{photos}/{i:02}.png") for i in range(40)]
scores = guard(photos).scores.tolist()
print(scores == guard(pictures).scores.tolist(), *scores)
"""


def test_a_guard_brings_pictures_to_its_size_in_another_process_too(tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "wide" / f"{i:02}.png")
    images = offmap.data.load(tmp_path / "wide", size=8, resize="squash")
    assert isinstance(images, offmap.data.ImageSet)
    guard = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    first, second = images.split(0.5)
    guard.fit(first).calibrate(second).save(tmp_path / "guard")
    command = [sys.executable, "-c", _ELSEWHERE, str(tmp_path / "guard"), str(tmp_path / "wide")]
    alike, *scores = subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.split()
    assert alike == "True"
    assert [*map(float, scores)] == pytest.approx(guard(images.images).scores.tolist(), rel=1e-5)


def test_other_ways_to_a_size_are_told(tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 20), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "wide" / f"{i:02}.png")
    crop, squash = (
        offmap.data.load(tmp_path / "wide", size=8, resize=way) for way in ("crop", "squash")
    )
    assert isinstance(crop, offmap.data.ImageSet)
    guard = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    first, second = crop.split(0.5)
    guard.fit(first).calibrate(second)
    with pytest.warns(InputsWarning, match="made by resize='crop'.*made by 'squash'") as told:
        guard(squash)
    assert told[0].filename == __file__
    with pytest.warns(InputsWarning, match="tell them apart by that alone"):
        offmap.evaluate(
            demo.shipped(), id_test=crop, ood={"other": squash}, detectors="energy",
            normalization=demo.NORMALIZATION,
        )  # fmt: skip
    guard(offmap.data.noise("gaussian", 9, crop.shape))  # as given: nothing is to be told


def test_an_interrupted_run_scores_nothing_twice(
    guard: offmap.Guard, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = photos.parent / "v.csv"
    seen: list[int] = []
    plain = offmap.Guard.forward

    def counting(self: offmap.Guard, images: torch.Tensor) -> offmap.Verdict:
        if len(seen) == 3:
            seen.append(0)
            raise KeyboardInterrupt
        seen.append(len(images))
        return plain(self, images)

    monkeypatch.setattr(offmap.Guard, "forward", counting)
    with pytest.raises(KeyboardInterrupt):
        score_files(guard, [str(photos)], out, batch_size=8)
    assert not out.exists()
    (partial,) = photos.parent.glob(".v.csv.partial")
    with partial.open("a") as file:
        file.write('{"path": "torn')  # as a kill in the middle of a write leaves it
    summary = score_files(guard, [str(photos)], out, batch_size=8)
    assert sum(seen) == 50
    assert summary.images == 51
    assert len(rows_of(out)) == 51
    whole = photos.parent / "whole.csv"
    score_files(guard, [str(photos)], whole, batch_size=8)
    assert out.read_text() == whole.read_text()


def test_a_guard_made_alike_on_another_day_goes_on(
    guard: offmap.Guard, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = photos.parent / "v.csv"
    interrupt(guard, photos, out, monkeypatch, after=8)
    monkeypatch.setitem(guard.history.read["fit"], "date", "2020-01-01")
    assert score_files(guard, [str(photos)], out).images == 51


def test_an_unfinished_run_of_other_inputs_is_not_mixed_in(
    guard: offmap.Guard, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = photos.parent / "v.csv"
    interrupt(guard, photos, out, monkeypatch, after=8)
    with pytest.raises(StoreError, match="another guard or other inputs"):
        score_files(guard, [str(photos / "deep")], out)


def test_the_same_relative_path_in_another_folder_is_other_inputs(
    guard: offmap.Guard, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, name = photos.parent / "v.csv", photos.name
    with monkeypatch.context() as inside:
        inside.chdir(photos.parent)
        interrupt(guard, Path(name), out, inside, after=8)
    other = photos.parent / "other"
    shutil.copytree(photos, other / name)
    monkeypatch.chdir(other)
    with pytest.raises(StoreError, match="another guard or other inputs"):
        score_files(guard, [name], out)
    monkeypatch.chdir(photos.parent)
    assert score_files(guard, [name], out).images == 51


def test_what_has_no_row_yet_blocks_nothing(
    guard: offmap.Guard, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = photos.parent / "v.csv"
    interrupt(guard, photos, out, monkeypatch, after=0)
    assert score_files(guard, [str(photos / "deep")], out).images == 20


def test_what_a_crash_has_left_of_a_run_is_no_run(guard: offmap.Guard, photos: Path) -> None:
    out = photos.parent / "v.csv"
    (photos.parent / ".v.csv.partial").write_bytes(b"\0\0\0\n")
    assert score_files(guard, [str(photos / "deep")], out).images == 20


def test_a_log_does_not_stand_where_the_verdicts_go(guard: offmap.Guard, photos: Path) -> None:
    out = photos.parent / "v.jsonl"
    with pytest.raises(ArgumentError, match="give the log another name"):
        score_files(guard, [str(photos)], out, log=photos / ".." / "v.jsonl")


def test_an_input_that_is_not_there_shows_before_any_work(
    guard: offmap.Guard, photos: Path
) -> None:
    out = photos.parent / "v.csv"
    with pytest.raises(DataNotFoundError, match="matches none"):
        score_files(guard, [str(photos), "nowhere/*.jpg"], out)
    assert score_files(guard, [str(photos)], out).images == 51


def test_another_guard_does_not_go_on(
    guard: offmap.Guard, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both explain themselves in the same words, but for the accuracy of their networks."""
    sets = demo.digits_data()
    others = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        one = offmap.Guard(DigitsCNN(), ["msp", "energy"], normalization=demo.NORMALIZATION)
        others.append(one.fit(sets.train).calibrate(sets.calibration))
    words = [[x for x in one.explain().splitlines() if "is right on" not in x] for one in others]
    assert words[0] == words[1]
    out = photos.parent / "v.csv"
    interrupt(others[0], photos, out, monkeypatch, after=8)
    with pytest.raises(StoreError, match="another guard"):
        score_files(others[1], [str(photos)], out)
    assert score_files(others[0], [str(photos)], out).images == 51


def test_two_runs_do_not_write_one_file(
    guard: offmap.Guard, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, plain = photos.parent / "v.csv", offmap.Guard.forward

    def second(self: offmap.Guard, images: torch.Tensor) -> offmap.Verdict:
        monkeypatch.setattr(offmap.Guard, "forward", plain)
        with pytest.raises(StoreError, match="another process is writing"):
            score_files(guard, [str(photos)], out)
        return plain(self, images)

    monkeypatch.setattr(offmap.Guard, "forward", second)
    assert score_files(guard, [str(photos)], out, batch_size=8).images == 51
    assert len(rows_of(out)) == 51


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_names_need_not_be_utf8(guard: offmap.Guard, photos: Path, suffix: str) -> None:
    named = os.fsencode(photos / "deep") + b"/caf\xe9.png"
    try:
        os.rename(photos / "deep" / "00.png", named)
    except OSError:
        pytest.skip("this file system takes no such name")
    out = photos.parent / f"v{suffix}"
    score_files(guard, [str(photos / "deep")], out)
    row = next(row for row in rows_of(out) if "caf" in row["path"])
    assert row["path"].endswith("caf\\xe9.png")
    assert not row["error"]


def interrupt(
    guard: offmap.Guard, photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *, after: int
) -> None:
    """A run that is stopped once it has so many rows."""
    partial, plain = out.with_name(f".{out.name}.partial"), offmap.Guard.forward

    def stopping(self: offmap.Guard, images: torch.Tensor) -> offmap.Verdict:
        if partial.read_text().count("\n") > after:
            raise KeyboardInterrupt
        return plain(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(offmap.Guard, "forward", stopping)
        with pytest.raises(KeyboardInterrupt):
            score_files(guard, [str(photos)], out, batch_size=8)


def test_inputs_of_every_kind(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = str(photos / "03.png")
    parquet = photos.parent / "p.parquet"
    pq.write_table(pa.table({"image": [(photos / "03.png").read_bytes()] * 2}), parquet)
    monkeypatch.setattr("sys.stdin", [f"{one}\n", "\n"])
    names = [n for n, _ in read_images([one, f"{photos}/0*.png", str(parquet), "-"], (1, 8, 8))]
    assert names[0] == names[-1] == one
    assert names[1:11] == sorted(str(p) for p in photos.glob("0*.png"))
    assert len(names) == 1 + 10 + 2 + 1


def test_paths_on_standard_input_need_not_be_of_its_encoding(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = photos / os.fsdecode(b"\xff.png")
    try:
        strange.write_bytes((photos / "03.png").read_bytes())
    except OSError:  # of file systems that hold Unicode alone
        pytest.skip("this file system takes no such name")
    lines = io.BytesIO(os.fsencode(f"{strange}\n\n{photos / '03.png'}\n"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(lines, encoding="utf-8"))
    found = list(read_images(["-"], (1, 8, 8)))
    assert [name for name, _ in found] == [str(strange), str(photos / "03.png")]
    assert not any(isinstance(image, Skipped) for _, image in found)


def test_every_name_goes_with_its_image(photos: Path) -> None:
    for name, image in read_images([str(photos)], (1, 8, 8)):
        if isinstance(image, Skipped):
            assert image.path == name
        else:
            with Image.open(name) as stored:
                assert np.array_equal(np.asarray(stored), image[0].numpy())


def test_starting_behind_passes_over(photos: Path) -> None:
    names = [name for name, _ in read_images([str(photos)], (1, 8, 8))]
    rest = read_images([str(photos)], (1, 8, 8), passed=names[:45])
    assert [name for name, _ in rest] == names[45:]


def test_another_list_of_paths_is_not_mixed_into_an_unfinished_run(
    guard: offmap.Guard, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both come on standard input, so the arguments are the same."""
    out, paths = photos.parent / "v.csv", sorted(map(str, photos.rglob("*.png")))
    plain = offmap.Guard.forward

    def stopping(self: offmap.Guard, images: torch.Tensor) -> offmap.Verdict:
        if (photos.parent / ".v.csv.partial").read_text().count("\n") > 9:
            raise KeyboardInterrupt
        return plain(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(offmap.Guard, "forward", stopping)
        patch.setattr("sys.stdin", [f"{path}\n" for path in paths])
        with pytest.raises(KeyboardInterrupt):
            score_files(guard, ["-"], out, batch_size=8)
    monkeypatch.setattr("sys.stdin", [f"{path}\n" for path in paths[::-1]])
    with pytest.raises(StoreError, match=r"image 0 was .* and is .*other images"):
        score_files(guard, ["-"], out, batch_size=8)
    monkeypatch.setattr("sys.stdin", [f"{path}\n" for path in paths])
    assert score_files(guard, ["-"], out, batch_size=8).images == len(paths)


def test_what_cannot_be_scored_is_refused(guard: offmap.Guard, photos: Path) -> None:
    with pytest.raises(ArgumentError, match=r"\.parquet, \.csv, \.jsonl"):
        score_files(guard, [str(photos)], photos.parent / "v.xlsx")
    with pytest.raises(DataNotFoundError, match="matches none"):
        score_files(guard, ["nowhere/*.jpg"], photos.parent / "v.csv")
    fresh = offmap.Guard(demo.shipped(), "msp", normalization=demo.NORMALIZATION)
    with pytest.raises(NotFittedError):
        score_files(fresh, [str(photos)], photos.parent / "v.csv")
    with pytest.raises(ArgumentError, match="batch_size must be a whole number of at least 1"):
        score_files(guard, [str(photos)], photos.parent / "v.csv", batch_size=0)
    with pytest.raises(ArgumentError, match="keep must be a whole number of at least 0"):
        score_files(guard, [str(photos)], photos.parent / "v.csv", keep=-1)


def test_a_summary_need_not_keep_rows(guard: offmap.Guard, photos: Path) -> None:
    summary = score_files(guard, [str(photos)], photos.parent / "v.csv", keep=0)
    assert summary.images > summary.unreadable
    assert not any(summary.extremes.values())


def test_the_false_discovery_estimate() -> None:
    summary = offmap.guard.files.Summary(0.05, images=110, unknown=20, unreadable=10)
    assert summary.share == 0.2
    assert summary.false_discoveries == pytest.approx(0.05 * 100 / 20)


def test_a_small_rate_is_told_as_it_was_typed() -> None:
    told = str(Summary(images=10_000, unknown=900, unreadable=0, alarm_rate=0.00025))
    assert "At an alarm rate of 0.025%, at most 0.28% of those called unknown" in told
