"""Ray with real workers, which are killed in the middle: nothing is lost, and nothing counts twice.

One session for all tests of this file; a worker takes seconds to start, so each test does much.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import offmap
from offmap import data, demo, scale
from offmap.cli import main
from offmap.detectors import ordinary
from offmap.guard.files import score_files
from tests.scale.killing import Killing

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


def close(a: Tensor, b: Tensor) -> bool:
    """Equal to 1e-10 of their size, or to the rounding of what is kept in float32."""
    if not a.is_floating_point():
        return torch.equal(a, b)
    rtol = 1e-10 if a.dtype == torch.float64 else 1e-6
    size = float(b.abs().max()) if b.numel() else 0.0
    return a.shape == b.shape and bool(((a - b).abs() <= rtol * size).all())


def test_fits_are_those_of_one_process_though_workers_are_killed(
    sets: demo.Digits, tmp_path: Path
) -> None:
    names = [*ordinary(), "ReAct(ViM(dim=4))", "Combine([energy, knn(k=5)])"]
    whole = Killing(sets.train, tmp_path)
    one, many = (
        offmap.Guard(demo.shipped(), names, normalization=demo.NORMALIZATION) for _ in range(2)
    )
    one.fit(whole, batch_size=8)
    for name in ("2", "5"):  # shards of 128
        (tmp_path / f"{name}.armed").touch()
    scale.fit(many, whole, workers=2, batch_size=8)
    assert not list(tmp_path.glob("*.armed"))
    assert many.read == one.read
    assert (many.input_shape, many.weights, many.classes) == (
        *(one.input_shape, one.weights, one.classes),
    )
    for a, b in zip(many.each(), one.each(), strict=True):
        assert a.state_dict().keys() == b.state_dict().keys()
        for name, x in a.state_dict().items():
            assert close(x, b.state_dict()[name]), (repr(a), name)
