"""Ray with real workers, which are killed in the middle: nothing is lost, and nothing counts twice.

One session for all tests of this file; a worker takes seconds to start, so each test does much.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import offmap
from offmap import data, demo, scale
from offmap.cli import main
from offmap.errors import ArgumentError, DataError, LeftOutWarning
from offmap.guard.files import score_files
from offmap.networks import build
from tests.scale.alike import alike
from tests.scale.killing import Killing
from tests.test_readme import ROOT, run

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 << 20,
    )
    yield
    ray.shutdown()


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scores_are_those_of_one_process_though_workers_are_killed(
    sets: demo.Digits, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are: each takes the blocks at hand with it, which are scored again."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).with_name("killing.py"), "mine.py")
    shutil.copytree(photos, "photos")
    guard = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration)
    guard.input_transform = data.OwnTransform.of("mine.py:prepare").id
    guard.model = "digits_cnn"
    guard.save("guard", weights=True)
    how: dict[str, Any] = {"batch_size": 3, "transform": "mine.py:prepare"}
    score_files(guard, ["photos"], "one.jsonl", **how)
    for name in ("07", "31"):
        Path(f"{name}.armed").touch()
    summary = scale.score("photos", "guard", "many.jsonl", workers=2, **how)
    assert rows(Path("many.jsonl")) == rows(Path("one.jsonl"))
    assert (summary.images, summary.unreadable) == (51, 1)
    assert not list(tmp_path.glob("*.armed"))
    assert ray.is_initialized()


@pytest.mark.skipif(sys.platform == "win32", reason="a drive is no part of an address")
def test_images_of_an_object_store_are_read_by_the_workers(
    guard: offmap.Guard, folder: Path, photos: Path, tmp_path: Path
) -> None:
    score_files(guard, [str(photos)], tmp_path / "one.jsonl", batch_size=2)
    scale.score(f"file://{photos}", folder, tmp_path / "many.jsonl", workers=2, batch_size=2)
    there = [row["path"] for row in rows(tmp_path / "many.jsonl")]
    assert there == [f"file://{row['path']}" for row in rows(tmp_path / "one.jsonl")]
    alike = [
        [row | {"path": "", "error": None} for row in rows(tmp_path / name)]
        for name in ("one.jsonl", "many.jsonl")
    ]
    assert alike[0] == alike[1]


def test_an_unfinished_run_goes_on_behind_its_last_block(
    guard: offmap.Guard, folder: Path, photos: Path, tmp_path: Path
) -> None:
    """Whichever of the two ways began it, and the command says the same."""
    out, whole = tmp_path / "v.jsonl", tmp_path / "whole.jsonl"
    score_files(guard, [str(photos)], whole, batch_size=2)

    class Stopped(Exception):  # noqa: N818
        pass

    def stopping(reading: Any, spans: Any) -> Iterator[Any]:
        for i, batch in enumerate(reading.rows(guard, spans)):
            if i == 3:
                raise Stopped
            yield batch

    with pytest.raises(Stopped):
        score_files(guard, [str(photos)], out, batch_size=2, spread=stopping)
    partial = tmp_path / ".v.jsonl.partial"
    before = partial.read_text().splitlines()[1:]
    assert len(before) == 6
    kept = [json.loads(line) | {"answer": "kept"} for line in before]
    first = partial.read_text().splitlines()[0]
    partial.write_text("\n".join([first, *map(json.dumps, kept)]) + "\n")
    words = f"score {folder} {photos} --out {out} --batch-size 2 --engine ray --workers 2"
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert not ended.value.code
    assert rows(out)[:6] == kept
    assert rows(out)[6:] == rows(whole)[6:]


def test_fits_are_those_of_one_process_though_workers_are_killed(
    sets: demo.Digits, tmp_path: Path
) -> None:
    names = ["ReAct(ViM(dim=4))", "knn(k=5)", "Combine([energy, knn])", "temperaturescaled"]
    whole = Killing(sets.train, tmp_path)
    (tmp_path / "net.py").write_text(
        "from offmap.networks import DigitsCNN\n\n\nclass Mine(DigitsCNN):\n    pass\n"
    )
    network = build(f"{tmp_path}/net.py:Mine")  # of a file, which no worker can import
    network.load_state_dict(demo.shipped().state_dict())
    one, many = (offmap.Guard(network, names, normalization=demo.NORMALIZATION) for _ in range(2))
    one.fit(whole, batch_size=8)
    for name in ("2", "5"):  # shards of 128
        (tmp_path / f"{name}.armed").touch()
    scale.fit(many, whole, workers=2, batch_size=8)
    assert not list(tmp_path.glob("*.armed"))
    assert many.history.read == one.history.read
    assert (many.input_shape, many.weights) == (one.input_shape, one.weights)
    for a, b in zip(many.each(), one.each(), strict=True):
        ours, theirs = a.state_dict(), b.state_dict()
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not alike(ours[name], theirs[name])] == []
    assert torch.equal(many.detectors[1].bank_, one.detectors[1].bank_)  # type: ignore[arg-type]


def test_calibration_is_that_of_one_process(sets: demo.Digits, tmp_path: Path) -> None:
    """Detectors learn on their share, and the rest gives the threshold: the same samples."""
    labels = sets.calibration.labels
    assert labels is not None
    for i, (image, label) in enumerate(zip(sets.calibration.images, labels.tolist(), strict=True)):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        Image.fromarray(image[0].numpy()).save(tmp_path / str(label) / f"{i:03}.png")
    (tmp_path / "3" / "broken.png").write_bytes(b"no picture")
    names = ["mahalanobis", "temperaturescaled"]
    one = offmap.Guard(demo.shipped(), names, normalization=demo.NORMALIZATION).fit(sets.train)
    many = deepcopy(one)
    for guard, calibrate in ((one, offmap.Guard.calibrate), (many, scale.calibrate)):
        held = data.load(tmp_path, keep_in_memory_bytes=0)
        with pytest.warns(LeftOutWarning, match="skipped in .*: 1 unreadable, first .*broken.png"):
            calibrate(guard, held, [0.1, 0.05], batch_size=4)
    ours, theirs = many.calibration, one.calibration
    assert ours.record() == theirs.record()
    assert torch.equal(ours.scores_[0], theirs.scores_[0])
    assert torch.allclose(ours.scores_[1], theirs.scores_[1], rtol=1e-6)
    assert torch.equal(ours.limits_, theirs.limits_)
    assert many.history.read == one.history.read


@pytest.mark.slow
def test_what_is_not_finite_is_refused_in_the_words_of_one_process(sets: demo.Digits) -> None:
    """Fits and evaluations named the index in a shard, and a calibration gave another reason."""

    def holed(held: data.ImageSet, rows: slice) -> data.ImageSet:
        images = demo.NORMALIZATION(held.images)
        images[rows] = torch.nan
        return replace(held, images=images)

    def error(function: Any, *args: Any, **options: Any) -> tuple[type, str]:
        with pytest.raises(DataError) as raised:
            function(*args, batch_size=10, **options)
        return raised.type, str(raised.value)

    names = ["mahalanobis", "energy"]
    late, all_rows = slice(-7, -6), slice(None)
    unfitted = offmap.Guard(demo.shipped(), names, normalization=demo.NORMALIZATION)
    train = holed(sets.train, late)
    assert error(scale.fit, deepcopy(unfitted), train) == error(deepcopy(unfitted).fit, train)
    for learner in ("energy", "temperaturescaled"):
        guard = offmap.Guard(demo.shipped(), learner, normalization=demo.NORMALIZATION)
        guard.fit(sets.train)
        held = holed(sets.calibration, all_rows)
        ours = error(scale.calibrate, deepcopy(guard), held, workers=1)
        assert ours == error(deepcopy(guard).calibrate, held)
    options = {"train": sets.train, "ood": sets.ood, "normalization": demo.NORMALIZATION}
    options |= {"id_test": sets.test, "detectors": names}
    options["calibration"] = holed(sets.calibration, late)
    of_workers = error(offmap.evaluate, demo.shipped(), engine="ray", **options)
    assert of_workers == error(offmap.evaluate, demo.shipped(), **options)
    assert str(len(sets.calibration) - 7) in of_workers[1]


def test_the_how_to_page_runs(
    guard: offmap.Guard, folder: Path, photos: Path, sets: demo.Digits, monkeypatch: Any
) -> None:
    monkeypatch.chdir(folder.parent)
    paths = sorted(map(str, photos.glob("*.png")))
    names: dict[str, Any] = {"paths": paths, "train": sets.train}
    names |= {"network": demo.shipped(), "normalization": demo.NORMALIZATION}
    assert run(ROOT / "docs" / "how-to" / "scale.md", names) == 3
    verdicts, frame = names["verdicts"], names["frame"].sort_values("path")
    assert frame["path"].tolist() == names["mapped"]["path"][:] == paths
    for name in ("label", "score", "p", "is_ood", "reason"):
        for other in (frame[name].to_numpy(), np.array(names["mapped"][name][:])):
            assert np.array_equal(other, verdicts[name], equal_nan=name in ("score", "p")), name
    assert [bool(reason) for reason in verdicts["reason"]] == ["15b" in path for path in paths]
    assert names["unknown"] == verdicts["is_ood"].sum()
    good = [i for i, path in enumerate(paths) if "15b" not in path]
    images = np.stack([np.array(Image.open(paths[i]))[None] for i in good])
    assert verdicts["score"][good].tolist() == guard(images).scores.tolist()
    one = offmap.Guard(demo.shipped(), "vim", normalization=demo.NORMALIZATION).fit(sets.train)
    x = sets.test.images
    assert (
        names["fitted"]
        .calibrate(sets.calibration)(x)
        .scores.allclose(one.calibrate(sets.calibration)(x).scores, rtol=1e-5)
    )


def test_evaluations_are_those_of_one_process(
    sets: demo.Digits, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held sets, streamed ones with a broken image, a loader, and a layer, in one evaluation."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, "photos")
    loader = [(sets.ood["far"]["faces"].images[i : i + 40], None) for i in (0, 40)]

    def streamed() -> data.StreamedSet:
        found = data.load(tmp_path / "photos", keep_in_memory_bytes=0)  # workers stand elsewhere
        assert isinstance(found, data.StreamedSet)
        return found

    def both() -> Any:
        faces = data.ImageSet("faces", sets.ood["far"]["faces"].images[80:120])
        return data.join([faces, replace(streamed(), name="more photos")])

    def ood() -> dict[str, Any]:
        return {
            "near": sets.ood["near"],
            "far": {"photos": streamed(), "loader": loader, "both": both()},
        }

    options: dict[str, Any] = {
        "id_test": sets.test.subset(range(50, len(sets.test))),  # the others are the photos
        "train": sets.train,
        "calibration": sets.calibration,
        "id_shift": {"pale": "corrupt:contrast:3"},
        "detectors": ["energy", "ViM(dim=8)", "knn", "featurenorm"],
        "normalization": demo.NORMALIZATION,
        "batch_size": 16,
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.warns(LeftOutWarning, match="photos"):
            one = offmap.evaluate(demo.shipped(), ood=ood(), **options)
        with pytest.warns(LeftOutWarning, match="photos"):
            many = offmap.evaluate(demo.shipped(), ood=ood(), engine="ray", **options)
    finally:
        torch.set_num_threads(threads)
    assert many.rows == one.rows
    assert many.shifts == one.shifts
    assert many.summaries == one.summaries
    assert many.sets == one.sets
    assert [len(s.skipped) for s in many.sets if s.name in ("photos", "both")] == [1, 1]
    assert many.settings["head"] == one.settings["head"]
    for kind in ("predictions", "labels"):
        for name, values in getattr(one, kind).items():
            assert np.array_equal(getattr(many, kind)[name], values)
    assert many.keys == one.keys
    with pytest.raises(DataError, match="50 of the 50 samples of the OOD set 'photos'"):
        offmap.evaluate(
            demo.shipped(),
            engine="ray",
            ood={"photos": sets.test.subset(range(50))},
            **options | {"id_test": sets.test},
        )


def test_an_evaluation_by_workers_keeps_no_cache(sets: demo.Digits, tmp_path: Path) -> None:
    given: dict[str, Any] = {"id_test": sets.test, "ood": sets.ood}
    with pytest.raises(ArgumentError, match="leave out cache="):
        offmap.evaluate(demo.shipped(), cache=tmp_path, engine="ray", **given)
    with pytest.raises(ArgumentError, match="there is 'ray'"):
        offmap.evaluate(demo.shipped(), engine="spark", **given)
