"""Our rows beside published ones."""

from __future__ import annotations

from dataclasses import replace

import pytest

from offmap.cli import main
from offmap.errors import ArgumentError, UnknownNameError
from offmap.evaluation import Results, Row, SetInfo
from offmap.evaluation.published import SOURCES, beside, read
from offmap.metrics import detection


def results(detectors: list[str], source: str = "cifar10:test[0.9]") -> Results:
    """AUROC 0.9 on one near and two far sets."""
    figures = detection([0.0, 1.0], [2.0]).__dict__ | {"auroc": 0.9}
    sets = [("cifar100", "near"), ("mnist", "far"), ("svhn370", "far")]
    rows = [Row(detector=d, set=s, group=g, **figures) for d in detectors for s, g in sets]
    return Results(
        rows=rows,
        scores={},
        sets=[SetInfo(name="id", role="id", n=2, source=source)],
        settings={"model": "resnet20"},
    )


def test_rows_stand_beside_the_published_ones_with_their_difference() -> None:
    found = beside(results(["msp", "ebo", "knn", "ViM(dim=12)", "mine"]))
    assert found.rows == {
        "msp": {"near": (90.0, 88.03), "far": (90.0, 90.73)},
        "ebo": {"near": (90.0, 87.58), "far": (90.0, 91.21)},
        "knn": {"near": (90.0, 90.64), "far": (90.0, 92.96)},
    }
    table = found.table()
    line = next(line for line in table.splitlines() if line.startswith("msp"))
    assert line.split() == ["msp", "90.00", "88.03", "1.97", "90.00", "90.73", "-0.73"]
    assert "ebo†" in table
    assert "knn‡" in table
    assert "msp†" not in table


def test_the_table_says_why_the_figures_differ() -> None:
    table = beside(results(["msp", "energy", "mine"])).table()
    assert "network: ours is resnet20, theirs ResNet-18, 100 epochs, mean of three seeds" in table
    assert "near sets: ours are cifar100; theirs cifar100, tiny_imagenet" in table
    assert "far sets: ours are mnist, svhn370; theirs mnist, svhn, textures, places" in table
    assert "searched on OOD validation data" in table
    assert "no published row: mine" in table
    assert "arXiv:2306.09301" in table


def test_the_same_sets_are_no_difference() -> None:
    ours = results(["msp"])
    names = ["cifar100", "tiny_imagenet"]
    rows = [replace(ours.rows[0], set=name) for name in names]
    found = beside(replace(ours, rows=rows))
    assert list(found.rows["msp"]) == ["near"]
    assert not any("sets:" in line for line in found.reasons())


def test_what_has_no_published_rows_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no rows for the ID set 'photos'; it has cifar10"):
        beside(results(["msp"], "photos"))
    with pytest.raises(UnknownNameError, match="no published figures called 'other': openood"):
        beside(results(["msp"]), "other")
    with pytest.raises(ArgumentError, match="none of these detectors has a published row"):
        beside(results(["mine"]))
    flat = results(["msp"])
    flat = replace(flat, rows=[replace(row, group="ood") for row in flat.rows])
    with pytest.raises(ArgumentError, match="means over near and far sets"):
        beside(flat)


def test_the_data_of_the_package_are_whole() -> None:
    for source in SOURCES:
        found = read(source)
        for benchmark in found.benchmarks.values():
            assert len(benchmark.rows) >= 17
            for row in benchmark.rows.values():
                assert set(row) == {"near", "far"}
                assert all(50 < value < 100 for value in row.values())
        marked = {*found.tuned.detectors, *found.tuned.unclear}
        assert marked <= set(found.benchmarks["cifar10"].rows)


def test_an_id_set_without_rows_shows_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "--model", "resnet20", "--id", "./none", "--published", "openood"]
    with pytest.raises(SystemExit):
        main([*arguments, "--near", "noise:gaussian"])
    assert "OpenOOD v1.5 has no rows for the ID set './none'" in capsys.readouterr().err
