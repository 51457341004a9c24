"""Keys of figures cover no data, lines are told apart, and words have one size."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from offmap import plots
from offmap.errors import ArgumentError
from offmap.evaluation import aggregate
from offmap.guard import Monitor
from offmap.guard.watching import Certified
from offmap.metrics import Difference, oscr_curve
from offmap.plots import _panels
from tests.reporting.conftest import several

X = np.linspace(0.1, 1, 5)
LONG = "ReAct(Energy(temperature=1.0), quantile=0.95)"
TESTS = {
    name: Difference(difference=d, low=low, high=high, p_value=0.5)
    for name, d, low, high in (("a", -0.02, -0.03, 0.01), ("b", 0.04, 0.01, 0.05))
}
LINES = {name: X * i for i, name in enumerate([LONG, *"bcdefghijklm"])}  # thirteen


def results() -> Figure:
    return plots.roc_curves(next(iter(several().values())))


def watched() -> Figure:
    monitor = Monitor(Certified("g", "plain", 0.05, (1000,), (50,), 1, True))
    for i in range(60):
        monitor.see(i % 3 == 0, i % 3, 0.01 if i % 3 == 0 else 0.6)
    return plots.watch(monitor, ["a long name of a class", "b", "c"])


def of_first() -> Figure:
    found = next(iter(several().values()))
    return plots.histograms(found, found.detectors[0])


def trained() -> Figure:
    columns = [
        f"{part}_{what}" for part in ("train", "validation") for what in ("loss", "accuracy")
    ]
    return plots.training_curves([{"epoch": i, **dict.fromkeys(columns, i)} for i in (1, 2)])


def oscr() -> Figure:
    curve = oscr_curve(X, np.ones(5, bool), X + 0.3)
    return plots.oscr_curves({s: dict.fromkeys(LINES, curve) for s in ("near", "far")})


def plane() -> Figure:
    z = np.arange(20.0).reshape(10, 2)
    return plots.plane({"id": z, "ood": z + 1}, z[:3], heading="h")


def projection() -> Figure:
    z = np.arange(20.0).reshape(10, 2)
    return plots.projection({name: z + i for i, name in enumerate(LINES)}, z[:3], heading="h")


DRAWN: dict[str, Callable[[], Figure]] = {
    "histograms": of_first,
    "roc_curves": results,
    "training_curves": trained,
    "watch": watched,
    "epoch_curves": lambda: plots.epoch_curves(range(5), {"NC1": LINES, "NC5": {"x": X}}),
    "against": lambda: plots.against({"NC1": X, "NC5": X}, LINES),
    "oscr_curves": oscr,
    "plane": plane,
    "projection": projection,
    "ranks": lambda: plots.ranks(aggregate(several())),
    "differences": lambda: plots.differences(TESTS, "t", "points"),
}
WITHOUT_KEY = ("ranks", "differences")


@pytest.mark.parametrize("kind", DRAWN)
def test_keys_and_labels_cover_no_panel_and_no_other_words(kind: str) -> None:
    figure = DRAWN[kind]()
    figure.draw_without_rendering()
    shown = [axis for axis in figure.axes if axis.axison]
    own = [(axis, axis.get_legend()) for axis in shown if axis.get_legend()]
    assert figure.legends or own or kind in WITHOUT_KEY
    for legend in (*figure.legends, *(legend for _, legend in own)):
        box = legend.get_window_extent()
        assert not [a for a in shown if box.overlaps(a.get_window_extent())]
        others = [a for a in shown if a.get_legend() is not legend]
        assert not [a for a in others if box.overlaps(a.get_tightbbox())]
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
    for axis, legend in own:
        assert not legend.get_window_extent().overlaps(axis.xaxis.get_tightbbox())


@pytest.mark.parametrize("kind", DRAWN)
def test_words_have_the_sizes_of_all_figures(kind: str) -> None:
    for axis in DRAWN[kind]().axes:
        if not axis.axison:
            continue
        assert axis.title.get_size() == 9
        assert axis.xaxis.label.get_size() == axis.yaxis.label.get_size() == 8
        assert axis.get_xlabel()
        assert axis.get_ylabel() or kind in ("epoch_curves", *WITHOUT_KEY)
        ticks = [*axis.get_xticklabels(), *axis.get_yticklabels()]
        assert {t.get_size() for t in ticks} <= {7}


def test_colours_of_lines_differ_and_so_do_thirteen_lines() -> None:
    colours = [np.array(to_rgb(colour)) for colour in _panels.COLOURS]
    assert min(np.abs(a - b).max() for a, b in combinations(colours, 2)) > 0.2
    looks = [tuple(_panels.line(i).items()) for i in range(13)]
    assert len(set(looks)) == 13
    assert len({tuple(_panels.look_of_points(i).items()) for i in range(13)}) == 13


def test_names_that_are_short_alike_each_have_their_entry() -> None:
    """The second of them had no entry in the key, and its line went by the name of the first."""
    names = [LONG, LONG.replace("1.0", "2.0"), "msp"]
    lines = {name: X * i for i, name in enumerate(names, 1)}
    (legend,) = plots.against({"NC1": X}, lines).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "ReAct(Energy(temperature=1.0),\nquantile=0.95)",
        "ReAct(Energy(temperature=2.0),\nquantile=0.95)",
        "msp",
    ]
    (axis,) = (a for a in plots.epoch_curves(range(5), {"loss": lines}).axes if a.axison)
    own = axis.get_legend()
    assert own is not None
    assert len({text.get_text() for text in own.get_texts()}) == 3


def test_roc_curves_have_one_colour_a_detector_and_name_the_best_of_each_set() -> None:
    found = next(iter(several().values()))
    axes = [a for a in plots.roc_curves(found).axes if a.axison]
    sets = [name for names in found.groups.values() for name in names]
    for axis, name in zip(axes, sets, strict=True):
        best = max(found.detectors, key=lambda d: found.get(d, name))
        value = f"{name}: best AUROC {found.get(best, name):.1%}"
        assert axis.get_title() == f"{value}\n{_panels.short(best)}"
    colours = [[(x.get_label(), x.get_color()) for x in a.lines] for a in axes]
    assert all(each == colours[0] for each in colours)


def test_the_outermost_bars_hold_what_lies_beyond_them_in_float32_too() -> None:
    found = next(iter(several().values()))
    name = found.detectors[0]
    rng = np.random.default_rng(0)
    shifted = {"id": 0.0, **dict.fromkeys((n for of in found.groups.values() for n in of), 2.0)}
    for _ in range(5):
        scores = {s: rng.normal(by, 1, 1000).astype(np.float32) for s, by in shifted.items()}
        figure = plots.histograms(replace(found, scores={name: scores}), name)
        for axis, set in zip(figure.axes, list(shifted)[1:], strict=False):
            heights = [[bar.get_height() for bar in bars] for bars in axis.containers]
            edges = np.array([bar.get_x() for bar in axis.containers[0]])
            width = edges[1] - edges[0]
            for shown, of in zip(heights, ("id", set), strict=True):
                share = (scores[of] >= edges[-1]).mean()
                assert shown[-1] * width == pytest.approx(share, abs=2e-3)


def test_differences_stand_with_their_intervals_the_largest_first() -> None:
    (axis,) = plots.differences(TESTS, "t", "points").axes
    assert [t.get_text() for t in axis.get_yticklabels()] == ["b", "a"]
    (bars,) = axis.containers
    points, _, (lines,) = bars.lines
    assert list(points.get_xdata()) == pytest.approx([4, -2])
    ends = [[x for x, _ in segment] for segment in lines.get_segments()]
    assert ends == [pytest.approx([1, 5]), pytest.approx([-3, 1])]
    assert axis.yaxis_inverted()


def test_names_are_drawn_whatever_they_are_made_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Dollars stand around formulas elsewhere, and a file's name need not be text."""
    names = ["a$b_$.png\nno", os.fsdecode(b"\xff.png"), "$", "50%"]
    images = [torch.rand(1, 4, 4) for _ in names]
    plots.save(plots.image_grid(images, names, heading="$_{$"), tmp_path / "grid.png")
    lines = {name: X for name in names}
    plots.save(plots.epoch_curves(range(5), {"NC1": lines}, log={"NC1"}), tmp_path / "lines.png")
    plots.save(plots.confusion(np.eye(4, dtype=np.int64), names), tmp_path / "confusion.png")
    assert len(list(tmp_path.iterdir())) == 3
    assert not caplog.records
    with pytest.raises(ArgumentError, match=r"a figure is a file such as grid\.png"):
        plots.save(plots.image_grid(images, names), tmp_path / "grid.txt")


def test_a_long_name_loses_its_middle() -> None:
    assert _panels.short("msp") == "msp"
    assert _panels.short(LONG) == "ReAct(Energy(tem…, quantile=0.95)"
