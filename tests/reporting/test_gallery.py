"""Samples worth looking at, and that their pictures are theirs."""

from __future__ import annotations

import base64
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import offmap
from offmap import data
from offmap.data import ImageSet
from offmap.evaluation import Results
from offmap.guard.decide import p_values
from offmap.reporting.sections import Gallery, Sample
from tests.reporting.conftest import HOSTILE, SETS, evaluated


def galleries(results: Results, **options: object) -> list[Gallery]:
    report = offmap.report(results, **options)  # type: ignore[arg-type]
    section = next(each for each in report.sections if each.name == "samples")
    return [block for block in section.blocks if isinstance(block, Gallery)]


def grey(sample: Sample) -> float:
    """The mean of a picture."""
    content = base64.b64decode(sample.image.partition(",")[2])
    with Image.open(BytesIO(content)) as image:
        return float(np.asarray(image.convert("L")).mean())


def test_they_are_the_extremes_of_the_recommended_detector(results: Results) -> None:
    wrong, strange, near = galleries(results)
    scores = results.scores[HOSTILE]
    of_first = [sample for sample in wrong.samples if sample.set == "plain"]
    assert [s.score for s in of_first] == pytest.approx(np.sort(scores["plain"])[:4], rel=1e-5)
    assert [s.score for s in strange.samples] == pytest.approx(
        np.sort(scores["id"])[::-1][:8], rel=1e-5
    )
    threshold = next(row.threshold for row in results.rows if row.detector == HOSTILE)
    every = np.concatenate([scores["id"], *(scores[name] for name in SETS)])
    assert [abs(s.score - threshold) for s in near.samples] == pytest.approx(
        np.sort(np.abs(every - threshold))[:8], abs=1e-4
    )
    p_value = float(p_values(np.sort(scores["plain"])[:1], scores["calibration"])[0])
    assert of_first[0].p_value == p_value
    assert f"p = {p_value:.3g}" in of_first[0].caption


@pytest.fixture
def shades(tmp_path: Path) -> Path:
    """Forty images, each of a shade of its own, of which the third cannot be read."""
    for i in range(40):
        Image.new("L", (8, 8), 6 * i).save(tmp_path / f"{i:02}.png")
    (tmp_path / "02.png").write_bytes(b"no picture")
    return tmp_path


@pytest.mark.parametrize("keep", [0, 2**30])
@pytest.mark.filterwarnings("ignore::offmap.errors.LeftOutWarning")
def test_a_picture_is_that_of_its_sample_where_others_could_not_be_read(
    shades: Path, keep: int
) -> None:
    images = data.load(str(shades), keep_in_memory_bytes=keep)
    keys = [f"{i:02}.png" for i in range(40) if i != 2]
    results = evaluated()
    scores = {d: of | {"plain": np.arange(39.0)} for d, of in results.scores.items()}
    rows = [replace(row, n_ood=39) if row.set == "plain" else row for row in results.rows]
    found = replace(results, rows=rows, scores=scores, keys=results.keys | {"plain": keys})
    wrong = galleries(found, inputs={"plain": images})[0].samples
    shown = {s.name: round(grey(s)) for s in wrong if s.set == "plain"}
    assert shown == {"00.png": 0, "01.png": 6, "03.png": 18, "04.png": 24}


def test_data_that_were_not_evaluated_give_no_picture(results: Results) -> None:
    other = ImageSet("other", torch.zeros(120, 1, 8, 8, dtype=torch.uint8))
    assert not any(s.image for g in galleries(results, inputs={"plain": other}) for s in g.samples)


def test_normalised_images_are_stretched(results: Results) -> None:
    keys = tuple(results.keys["plain"])
    floats = torch.linspace(-2, 2, 64).reshape(1, 1, 8, 8).repeat(120, 1, 1, 1)
    images = ImageSet("floats", floats, sample_keys=keys)
    wrong = galleries(results, inputs={"plain": images})[0].samples
    shown = [grey(s) for s in wrong if s.image]
    assert len(shown) == 4
    assert shown == pytest.approx([127.5] * 4, abs=1)


def test_classes_are_called_as_the_results_count_them() -> None:
    """The evaluation counted in the training data's "a", "b", "c", "d"; the ID set lacks "b"."""
    results = evaluated()
    truth = np.where(results.labels["id"] == 1, 0, results.labels["id"]).astype(np.int32)
    keys = [f"{i}.png" for i in range(300)]
    found = replace(
        results,
        labels=results.labels | {"id": truth},
        predictions=results.predictions | {"id": truth},
        keys=results.keys | {"id": keys},
    )
    own = torch.tensor([0, 9, 1, 2])[torch.from_numpy(truth).long()]
    pixels = torch.zeros(300, 1, 2, 2, dtype=torch.uint8)
    lacking = ImageSet("id", pixels, own, ("a", "c", "d"), sample_keys=tuple(keys))
    strange = galleries(found, inputs={"id": lacking})[1].samples
    assert strange
    for sample in strange:
        assert sample.prediction == "abcd"[truth[keys.index(sample.name)]]
    of_others = {s.prediction for s in galleries(found, inputs={"id": lacking})[0].samples}
    assert of_others <= {"a", "class 1", "c", "d"}
