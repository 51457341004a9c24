"""The benchmark that sets neural collapse against the choice of a detector."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import collapse_and_detectors as benchmark
from benchmarks._collapsed import RATIO, Network, correlation, measured, together
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

import offmap
from offmap import data
from offmap.cli import app
from offmap.evaluation.collapse import Collapse, collapse
from offmap.networks import DigitsCNN


def test_rank_correlation_has_the_exact_p_and_the_interval() -> None:
    rho, low, high, p = correlation([1, 2, 3, 4, 50], [2, 1, 4, 3, 5])
    assert rho == pytest.approx(0.8)
    assert p == pytest.approx(16 / 120)  # as in tables of Spearman's rho, n = 5
    assert (low, high) == (pytest.approx(-0.457, abs=1e-3), pytest.approx(0.991, abs=1e-3))
    assert correlation([1, 2, 3, 4, 50], [7] * 5)[::3] == (0, 1)
    same = list(range(8))
    assert correlation(same, same[::-1])[0] == pytest.approx(-1)
    assert correlation(same, same[::-1])[3] == pytest.approx(2 / 40320)


def test_orders_of_many_are_drawn() -> None:
    many = np.random.default_rng(0).normal(size=(2, 12))
    from scipy.stats import spearmanr

    known = spearmanr(*many)
    rho, _, _, p = correlation(*many.tolist())
    assert rho == pytest.approx(known.statistic)
    assert p == pytest.approx(known.pvalue, abs=0.02)


def test_groups_of_the_same_columns_are_no_further_evidence() -> None:
    once = together([[1, 2, 3]], [[1, 2, 3]])
    assert once == (pytest.approx(1), pytest.approx(2 / 6))
    assert together([[1, 2, 3]] * 2, [[10, 20, 30]] * 2) == once
    assert together([[1, 2, 3]] * 2, [[1, 2, 3], [3, 2, 1]]) == (pytest.approx(0), 1.0)


def network(nc1: float, id: str = "cifar10", **auroc: float) -> Any:
    named = {"msp": 0.5, "auto": 0.9} | auroc
    results = SimpleNamespace(
        detectors=list(named), mean=named.__getitem__, settings={"plan": {"id": id}}
    )
    figures = Collapse(
        n=9, accuracy=1.0, nc1=nc1, nc2_norms=0.1, nc2_angles=0.1, nc2_simplex=0.1, nc3=0.1,
        nc4=0.0, nc5={"near": nc1 / 10, "far": nc1 / 20}, means=None,  # type: ignore[arg-type]
    )  # fmt: skip
    draw = np.random.default_rng(0)
    scores = {
        d: {"id": draw.normal(size=30), "near": draw.normal(size=30), "far": draw.normal(size=30)}
        for d in ("maxlogit", "neco", RATIO)
    }
    return Network(results, figures, SimpleNamespace(scores=scores))  # type: ignore[arg-type]


def test_a_choice_by_nc1_is_that_of_the_nearest_network() -> None:
    runs = {
        "a": network(0.1, vim=0.8, knn=0.7),
        "b": network(0.2, vim=0.6, knn=0.5),
        "c": network(9.0, vim=0.5, knn=0.9),
    }
    lost = benchmark.losses(runs)
    assert lost["best of the network nearest in NC1"] == pytest.approx([0, 0, 40])
    assert lost["best of all other networks"] == pytest.approx([10, 10, 40])
    assert lost["best of another network by chance"] == pytest.approx([5, 5, 40])
    assert lost["msp"] == pytest.approx([30, 10, 40])
    assert lost["auto"] == pytest.approx([-10, -30, 0])


def test_families_stand_with_the_mean_of_their_members() -> None:
    named = dict.fromkeys(benchmark.NAMED, 0.6)
    run = network(1.0, **named, gram=0.8, rankfeat=0.7, react=0.9)
    found = benchmark.means(run)
    assert found["layers (2)"] == pytest.approx(75)
    assert found["shapers (1)"] == pytest.approx(90)
    assert found["logits (4)"] == pytest.approx(57.5)  # with MSP
    assert benchmark.advantages({"a": run})["layers (2)"] == [pytest.approx(25)]
    assert "msp" not in benchmark.advantages({"a": run})


def six_and_two() -> dict[str, Any]:
    """MaxLogit gains as NC1 rises, in the six of one ID set and in all; CADRef the other way."""
    same = dict.fromkeys(benchmark.NAMED, 0.7) | {"gram": 0.6, "react": 0.6}
    return {
        f"n{i}": network(
            i + 1.0, "cifar10" if i < 6 else "cifar100",
            **(same | {"maxlogit": 0.6 + i / 100, "cadref": 0.9 - i / 100, "vim": 0.7 + i % 2 / 9}),
        )
        for i in range(8)
    }  # fmt: skip


def test_networks_of_one_id_set_stand_by_themselves_where_they_are_enough() -> None:
    runs = six_and_two()
    assert list(benchmark.of_one_id(runs)) == ["cifar10"]
    assert list(benchmark.of_one_id(runs)["cifar10"]) == [f"n{i}" for i in range(6)]
    assert not benchmark.of_one_id({n: runs[n] for n in ("n1", "n2", "n3", "n4", "n5")})


def test_everything_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = six_and_two()
    monkeypatch.setattr(benchmark, "measured", lambda folder, *_: runs[folder.name])
    monkeypatch.setenv("COLUMNS", "150")
    benchmark.main([f"out/{name}" for name in runs])
    said = capsys.readouterr().out
    eight, six = said.split("NC1, 8 networks, all")[1], said.split("NC1, 6 networks, cifar10")[1]
    row = next(x.split() for x in eight.splitlines() if x.startswith("maxlogit"))
    assert row[1:3] == ["1.000", "1.000"]
    assert float(row[5]) < 0.001
    row = next(x.split() for x in six.splitlines() if x.startswith("cadref"))
    assert row[2] == "-1.000"
    assert "best of the network nearest in NC1" in said
    assert said.count("over networks: Spearman") == 2
    benchmark.main(["out/n0", "out/n1"])
    assert "networks, all" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``offmap bench`` writes of a small network and folders of images."""
    root = tmp_path_factory.mktemp("bench")
    generator = np.random.default_rng(0)
    for split, shade in (("train", 1), ("test", 1), ("strange", 2)):
        for i, label in enumerate("abc"):
            (root / split / label).mkdir(parents=True)
            for number in range(30):
                pixels = generator.integers(0, 40 + 70 * i // shade, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{number}.png")
    torch.manual_seed(0)
    save_file(DigitsCNN(3).state_dict(), root / "w.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFMAP_DATA", str(root))
        model = ["--model", "digits_cnn(classes=3)", "--weights", str(root / "w.safetensors")]
        sets = ["--id", str(root / "test"), "--train", str(root / "train")]
        sets += ["--far", f"strange={root / 'strange'}", "--limit", "60"]
        how = ["--normalize", "0.5/0.25", "--alarm-rate", "0.3", "--out", str(root / "out")]
        detectors = ["--detectors", "msp,maxlogit,energy,neco,featurenorm"]
        done = CliRunner().invoke(app, ["bench", *model, *sets, *how, *detectors])
    assert done.exit_code == 0, done.output
    return root


def test_a_network_is_measured_on_what_bench_has_stored(folder: Path) -> None:
    stored = set((folder / "out" / "activations").iterdir())
    found = measured(folder / "out", folder, per_class=1)
    # FeatureNorm reads a layer, and training images themselves, which bench then stores nothing of.
    assert len(set((folder / "out" / "activations").iterdir()) - stored) == 1
    known = data.load(str(folder / "test"), limit=60)
    weights = folder / "w.safetensors"
    wanted = collapse(
        offmap.networks.build("digits_cnn(classes=3)", weights=weights),
        data.load_like(str(folder / "train"), known, limit=60),
        ood={"strange": data.load_like(str(folder / "strange"), known, limit=60)},
        normalization=offmap.Normalization((0.5,), (0.25,)),
        show_progress=False,
    )
    assert found.collapse.n == 60
    assert found.collapse.nc1 == pytest.approx(wanted.nc1, rel=1e-4)
    assert found.collapse.nc5["strange"] == pytest.approx(wanted.nc5["strange"], rel=1e-4)
    for name in ("msp", "neco"):
        assert found.neco.mean(name) == pytest.approx(found.results.mean(name))
    gain = found.gain("neco", "maxlogit", ["strange"])
    assert gain.difference == pytest.approx(
        found.neco.get("neco", "strange") - found.neco.get("maxlogit", "strange")
    )
    assert gain.low <= gain.difference <= gain.high
    assert "60" in benchmark.collapse_table({"mine": found})


def test_more_training_images_are_taken_where_classes_have_few(folder: Path) -> None:
    assert measured(folder / "out", folder, per_class=25).collapse.n == 75
