"""Benchmarks on tiny sizes: what they measure, and what they hold to a bar."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import costs, pixmix_seeds, report
from benchmarks._generated import World, extra_memory

import offmap
from offmap.metrics import Difference


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_extra_memory_is_what_the_call_takes() -> None:
    assert extra_memory(lambda: torch.ones(256 << 18)) / 2**20 == pytest.approx(256, rel=0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells pages of files")
def test_extra_memory_is_not_what_the_call_reads_of_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(64 << 20))
    pages = np.memmap(tmp_path / "file", np.uint8, "r")  # as a library's code: mapped, not read
    assert extra_memory(pages.sum) / 2**20 < 16


def test_a_generated_world_has_classes_that_its_head_tells_apart() -> None:
    world = World.of(64, 10)
    batches = list(world.stream(2500))
    assert [len(labels) for _, labels in batches] == [1000, 1000, 500]
    right = sum(int((acts.logits.argmax(1) == labels).sum()) for acts, labels in batches)
    assert right >= 0.99 * 2500
    assert float(batches[0][0].features.min()) == 0.0  # as of a ReLU
    assert torch.equal(world.draw(5, 3)[0], World.of(64, 10).draw(5, 3)[0])


def test_costs_are_of_all_that_read_one_network_but_its_layers() -> None:
    names = costs.of_one_network()
    assert {"msp", "vim", "knn", "auto", "gram"} <= set(names)
    assert not {"odin", "bats", "multilayermahalanobis", "membermean"} & set(names)


def test_costs_tell_which_bars_are_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(costs, "TRAINING", 200)
    monkeypatch.setattr(costs, "MEBIBYTES", 1e6)
    assert costs.small(["knn", "gram"], 50, World.of(32, 4), 1) == []  # not held to the first bar
    assert "knn: median" in capsys.readouterr().out
    assert costs.told("one", [41.0, 39.0, 44.0], 2e6, 4, 32) == [
        "one 41.0 products",
        "one 2000000 MiB",
    ]


def test_a_covariance_a_class_is_refused_with_the_figure_and_the_tied_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 22}  # 16 GiB
    monkeypatch.setattr("offmap.detectors._binding.os.sysconf", pages.__getitem__)
    monkeypatch.setattr(costs, "World", _Wide)
    costs.fit_and_score("classgaussian", 2, 2048, 1000)
    printed = capsys.readouterr().out
    assert "93.8 GiB for 1000 classes of 2048 features, and this machine has 16.0" in printed
    assert "tied=True holds one covariance" in printed


class _Wide(World):
    """Means of so many classes and features that take no time to draw."""

    @classmethod
    def of(cls, features: int, classes: int) -> World:
        means = torch.zeros(classes, features)
        return cls(means, offmap.Head(torch.zeros(classes, features)))


def test_trainings_are_held_against_each_other_and_not_samples() -> None:
    tests = [
        Difference(difference=d, low=d - 0.005, high=d + 0.005, p_value=0.5)
        for d in (0.01, 0.02, -0.03)
    ]
    *of_each, mean, low, high, above, below = pixmix_seeds.row(tests)
    assert of_each == pytest.approx([1, 2, -3])
    assert mean == pytest.approx(0, abs=1e-9)
    # Student's 4.303 at two degrees of freedom, and a deviation of the square root of seven.
    assert (low, high) == (pytest.approx(-6.573, abs=1e-3), pytest.approx(6.573, abs=1e-3))
    assert (above, below) == (2, 1)
    with pytest.raises(SystemExit, match="two folders or more"):
        pixmix_seeds.read([Path("one")])


@pytest.mark.skipif(shutil.which("node") is None, reason="the page's script runs in node")
def test_a_step_of_a_reports_slider_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    """By the page's own script, whose functions the benchmark calls by name."""
    report.measure(2)
    assert re.search(r"a step of the slider computes \d+\.\d{3} ms", capsys.readouterr().out)
