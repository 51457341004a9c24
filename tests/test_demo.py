"""The demo's letters: what is drawn, what is known, and what its network makes of it."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
from matplotlib.ft2font import FT2Font
from typer.testing import CliRunner

import offmap
from offmap import demo
from offmap.cli import app
from offmap.data import ImageSet
from offmap.demo import glyphs, letters

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture(scope="module")
def sets() -> demo.Parts:
    return demo.letters_data()


def all_of(sets: demo.Parts) -> dict[str, ImageSet]:
    known = {"train": sets.train, "calibration": sets.calibration, "test": sets.test}
    return known | {name: s for group in sets.ood.values() for name, s in group.items()}


def rows(images: ImageSet) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.images}


def test_sets_have_their_sizes_and_share_no_picture(sets: demo.Parts) -> None:
    parts = all_of(sets)
    sizes = [3000, 1000, 1500, *[400] * 5, 150, 150, 100, 300]
    assert [len(part) for part in parts.values()] == sizes
    assert {part.shape for part in parts.values()} == {(1, 28, 28)}
    pictures = {name: rows(part) for name, part in parts.items()}
    assert all(len(pictures[name]) == len(part) for name, part in parts.items())
    assert not [pair for pair in combinations(pictures, 2) if pictures[pair[0]] & pictures[pair[1]]]


def test_each_letter_is_drawn_about_equally_often_in_each_font(sets: demo.Parts) -> None:
    assert sets.train.labels is not None
    assert sets.train.labels.bincount().tolist() == pytest.approx([300] * 10, abs=21)
    fonts = [key.split()[1] for key in sets.train.keys(0, 3000)]
    assert set(fonts) == set(letters.LATIN)
    labels = [letters.KNOWN[label] for label in sets.train.labels.tolist()]
    assert labels == [key[0] for key in sets.train.keys(0, 3000)]


def test_one_seed_draws_equal_pictures_and_another_seed_others() -> None:
    draw = {seed: letters.drawn("x", "AB", ("cmr10",), 9, seed=seed).images for seed in (4, 5)}
    again = letters.drawn("x", "AB", ("cmr10",), 9, seed=4).images
    assert torch.equal(draw[4], again)
    assert not torch.equal(draw[4], draw[5])


# What looks like a known letter in another script, and is therefore not drawn.
LOOKALIKES = set("ΑΒΕΗΚϹϜАВСЕЁЄНКЈҒԌ")


def test_no_known_letter_is_among_the_ood_glyphs(sets: demo.Parts) -> None:
    drawn = {c for group in letters.OTHERS.values() for text, _ in group.values() for c in text}
    assert not drawn & (set(letters.KNOWN) | LOOKALIKES)
    for name, part in all_of(sets).items():
        if name in ("letters", "digits", "greek", "cyrillic", "georgian"):
            assert {key[0] for key in part.keys(0, len(part))} <= drawn


def test_every_font_has_every_letter_that_it_is_asked_for() -> None:
    groups = [("".join(letters.KNOWN), letters.LATIN)]
    groups += [pair for group in letters.OTHERS.values() for pair in group.values()]
    for text, fonts in groups:
        for font in fonts:
            held = FT2Font(str(FONTS / f"{font}.ttf")).get_charmap()
            assert not [letter for letter in text if ord(letter) not in held], font


def test_glyphs_stand_whole_in_the_middle() -> None:
    for font in glyphs.DEJAVU:
        for letter in "AJMWЩЮЫ":
            drawn = glyphs.glyph(font, letter)
            edges = torch.cat([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]])
            assert edges.max() == 0, (font, letter)
            ink = drawn.nonzero().float()
            middle = (ink.amin(0) + ink.amax(0)) / 2
            assert middle.tolist() == pytest.approx([31.5, 31.5], abs=5)


def test_the_shipped_network_knows_the_letters_and_not_all_else(sets: demo.Parts) -> None:
    results = offmap.evaluate(
        letters.shipped(),
        train=sets.train,
        id_test=sets.test,
        ood=sets.ood,
        detectors=["msp", "relativemahalanobispp"],
        normalization=letters.NORMALIZATION,
    )
    right, total = results.accuracy or (0, 1)
    assert 0.975 < right / total < 0.997
    assert right / total == pytest.approx(letters.card().accuracy, abs=0.005)
    assert 0.87 < results.mean("msp") < 0.93
    assert 0.93 < results.mean("relativemahalanobispp") < 0.97


def test_the_normalization_is_that_of_the_training_letters(sets: demo.Parts) -> None:
    x = letters.NORMALIZATION(sets.train.images)
    assert float(x.mean()) == pytest.approx(0, abs=0.02)
    assert float(x.std()) == pytest.approx(1, abs=0.02)


@pytest.fixture
def few(sets: demo.Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo on some of its data, with two detectors."""
    ood = {g: {name: s.take(20) for name, s in group.items()} for g, group in sets.ood.items()}
    some = demo.Parts(sets.train.take(300), sets.calibration.take(100), sets.test.take(100), ood)
    monkeypatch.setattr(demo, "letters_data", lambda: some)
    monkeypatch.setattr(demo, "ordinary", lambda: ["msp", "relativemahalanobispp"])


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({}, "offmap demo"),
        ({"retrain": True, "alarm_rate": 0.1}, "offmap demo --retrain --alarm-rate 0.1"),
        ({"detectors": "msp"}, None),  # which the command does not take
    ],
)
def test_the_report_names_the_command_that_makes_it(
    options: dict[str, Any], command: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "train", lambda *_: letters.shipped())
    demo.run(tmp_path, report=True, show_progress=False, **options)
    sections = json.loads((tmp_path / "report.json").read_text())["sections"]
    rows = [row for s in sections for block in s["blocks"] for row in block.get("rows", ())]
    assert [row[1] for row in rows if row[0] == "command"] == ([command] if command else [])


@pytest.mark.usefixtures("few")
def test_the_command_prints_its_table_and_decision(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--no-report"])
    assert done.exit_code == 0, done.output
    results = offmap.Results.load(tmp_path)
    text = " ".join(done.output.split())
    right, total = results.accuracy or (0, 1)
    assert f"ten letters: accuracy {right / total:.2%}" in text
    assert "Best mean AUROC on this data: relativemahalanobispp (means of 10 classes" in text
    mine = [row for row in results.rows if row.detector == "relativemahalanobispp"]
    caught = ", ".join(f"{row.set} {row.ood_caught:.1%}" for row in mine)
    kept = 1 - (mine[0].id_alarm or 0)
    assert f"accepts {kept:.1%} of the known test letters, and calls OOD: {caught}." in text
    assert re.search(r"calibrated on \d+ held-out known letters for an alarm rate of 5%", text)
    assert {p.name for p in tmp_path.iterdir()} >= {"histograms.png", "roc.png", "most_wrong.png"}


def test_training_is_seeded(tmp_path: Path, sets: demo.Parts) -> None:
    """A first epoch on a part, twice: equal bits."""
    few = demo.Parts(sets.train.take(256), sets.calibration, sets.test.take(64), {})
    once, again = (letters.train(few, tmp_path / x, changes={"epochs": 1}) for x in "ab")
    for a, b in zip(once.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "a/card.json").is_file()
