"""The code in README and in the how-to pages runs, in order, as a newcomer would run it."""

from __future__ import annotations

import re
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import typer
from PIL import Image
from scipy import stats

import offmap
from offmap import demo
from offmap.cli import app
from offmap.data import ImageSet
from offmap.guard.limits import samples_needed
from offmap.guard.simultaneous import beta_limits, simultaneous_limits
from offmap.guard.watching import Watch
from offmap.networks import DigitsCNN
from tests.pages import ROOT, run


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders and the module that the how-to page starts from."""
    sets = demo.digits_data()
    for name, part in (("train", sets.train), ("held", sets.calibration), ("new", sets.test)):
        assert part.labels is not None
        for i, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
            path = tmp_path / "photos" / name / str(int(label)) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(path)
    module = ModuleType("my_project")
    module.network = demo.shipped()  # type: ignore[attr-defined]
    module.accurate = DigitsCNN(8)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_project", module)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_in_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sets = demo.digits_data()
    assert sets.train.labels is not None
    ready = {
        "model": demo.shipped(),
        "train_loader": [(demo.NORMALIZATION(x), y) for x, y in sets.train.batches(64)],
        "holdout_loader": [(demo.NORMALIZATION(x), y) for x, y in sets.calibration.batches(64)],
        "images": demo.NORMALIZATION(sets.test.images),
    }
    assert run(ROOT / "README.md", ready) == 2
    assert isinstance(ready["verdict"], offmap.Verdict)
    assert "auto" in ready["results"].detectors
    assert (tmp_path / "out" / "first" / "scores.parquet").is_file()


def test_the_how_to_page_on_training_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    assert run(ROOT / "docs" / "how-to" / "train.md", names) == 1
    assert (tmp_path / "runs" / "digits" / "card.json").is_file()
    assert names["results"].get("energy", "noise") > 0.5


def test_the_how_to_page_on_inputs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    assert run(ROOT / "docs" / "how-to" / "inputs.md", names) == 2
    assert len(names["verdict"]) == 300
    assert capsys.readouterr().out == "400 samples: 400 unknown, 0 known\n"


def test_the_how_to_page_on_networks_of_others_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_project")
    module.encoder, module.texts = DigitsCNN(5), torch.randn(3, 5)  # type: ignore[attr-defined]
    module.timm_model = DigitsCNN(3)  # type: ignore[attr-defined]
    config = {"mean": (0.5,), "std": (0.5,), "input_size": (1, 8, 8)}
    module.timm_model.pretrained_cfg = config
    monkeypatch.setitem(sys.modules, "my_project", module)
    held = torch.randn(60, 1, 8, 8)
    names: dict[str, Any] = {"others": torch.randn(4, 5), "holdout_loader": [held]}
    assert run(ROOT / "docs" / "how-to" / "networks.md", names) == 3
    assert names["own"].size == (8, 8)
    assert len(names["guard"](held).is_ood) == 60
    assert names["network"](torch.randn(2, 1, 8, 8)).shape == (2, 3)


def test_the_how_to_page_on_ensembles_runs() -> None:
    sets = demo.digits_data()
    torch.manual_seed(0)
    names: dict[str, Any] = {
        **{"model": demo.shipped(), "other": DigitsCNN(8), "third": DigitsCNN(8)},
        **{"train": sets.train, "held": sets.calibration, "test": sets.test},
        "unknown": sets.ood["far"]["faces"],
        "normalization": demo.NORMALIZATION,
        "images": sets.test.images,
    }
    assert run(ROOT / "docs" / "how-to" / "ensembles.md", names) == 3
    assert len(names["results"].detectors) == 3
    assert len(names["verdict"].labels) == len(sets.test)


def test_the_how_to_page_on_reports_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    sets = demo.digits_data()
    torch.manual_seed(0)
    names: dict[str, Any] = {
        **{"network": demo.shipped(), "other": DigitsCNN(8), "normalization": demo.NORMALIZATION},
        **{"train": sets.train, "held": sets.calibration, "test": sets.test},
        **{name: sets.ood["far"][name] for name in ("textures", "noise")},
    }
    assert run(ROOT / "docs" / "how-to" / "report.md", names) == 5
    assert (tmp_path / "report.json").is_file()
    assert "Checked on fresh data" in (tmp_path / "guard.html").read_text()
    assert "<img" in (tmp_path / "report.html").read_text()
    assert len(names["frame"]) == 6
    printed = capsys.readouterr().out
    assert "Recommended: " in printed
    assert "over 2 networks: seed 0, seed 1" in printed


def test_the_how_to_page_on_export_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    sets = demo.digits_data()
    torch.manual_seed(0)
    names: dict[str, Any] = {
        **{"network": demo.shipped(), "other": DigitsCNN(8)},
        **{"train": sets.train, "held": sets.calibration, "test": sets.test},
        **{"noise": sets.ood["far"]["noise"], "normalization": demo.NORMALIZATION},
    }
    assert run(ROOT / "docs" / "how-to" / "export.md", names) == 5
    verdict = names["guard"](sets.test.images[:5])
    assert names["label"].tolist() == verdict.labels.tolist()
    assert names["is_ood"].tolist() == verdict.is_ood.tolist()
    looser = names["guard"].at(0.2)(sets.test.images[:5]).is_ood
    assert names["looser"][0].tolist() == looser.tolist()
    assert names["pipe"].predict([[0] * 8, [9] * 8]).tolist() == [1, -1]


def test_the_how_to_page_on_certificates_runs(capsys: pytest.CaptureFixture[str]) -> None:
    sets = demo.digits_data()
    half = len(sets.test) // 2
    fresh, labelled = (
        ImageSet(name, sets.test.images[rows], sets.test.labels[rows])
        for name, rows in (("fresh", slice(half)), ("labelled", slice(half, None)))
    )
    names: dict[str, Any] = {
        **{"network": demo.shipped(), "normalization": demo.NORMALIZATION},
        **{"train": sets.train, "held": sets.calibration, "strange": sets.ood["far"]["faces"]},
        **{"fresh": fresh, "labelled": labelled},
    }
    assert run(ROOT / "docs" / "how-to" / "certificate.md", names) == 7
    text = capsys.readouterr().out
    assert "With confidence 95%, at most 10.00% of ID samples are called OOD" in text
    assert "by the simultaneous band for all rates at once" in text
    assert "OOD samples caught: 9" in text
    assert int(names["called"].sum()) == 0
    assert names["unknown"].shape == (80,)  # what was left of the second hundred
    assert names["stream"].smallest == simultaneous_limits(216, 0.05, "simes")[0]


def test_the_figures_of_the_page_on_certificates_are_those_of_the_code() -> None:
    """Samples needed and ranks of 1,000, as its table says."""
    delta = Fraction(1, 20)
    needed = [samples_needed(rate, of) for rate, of in ((0.05, None), (0.05, delta), (0.01, delta))]
    assert [*needed, samples_needed(0.05, delta / 10)] == [19, 59, 299, 104]
    assert simultaneous_limits(100, 0.05)[0] > 0.05 >= simultaneous_limits(101, 0.05)[0]
    assert int((simultaneous_limits(1000, 0.05) <= 0.05).sum()) == 32
    page = (ROOT / "docs" / "how-to" / "certificate.md").read_text()
    assert "| 5 % certified, chosen after looking | 101 | 32 |" in page
    assert beta_limits(1000, 0.05)[38] <= 0.05 < beta_limits(1000, 0.05)[39]
    of_1000, of_5000 = stats.betabinom.sf(250, 5000, [39, 225], [962, 4776])
    assert (round(of_1000, 2), round(of_5000, 2)) == (0.06, 0.11)


def test_the_page_on_auto_runs(capsys: pytest.CaptureFixture[str]) -> None:
    sets = demo.digits_data()
    names: dict[str, Any] = {
        "network": demo.shipped(),
        "train_loader": [(demo.NORMALIZATION(x), y) for x, y in sets.train.batches(64)],
        "holdout_loader": [(demo.NORMALIZATION(x), y) for x, y in sets.calibration.batches(64)],
    }
    assert run(ROOT / "docs" / "auto.md", names) == 1
    said = capsys.readouterr().out
    assert "Detector Auto(): mean bounded softplus of Energy" in said
    assert "MahalanobisPP" in said


def test_the_how_to_page_on_guards_runs(photos: Path) -> None:
    names: dict[str, Any] = {}
    assert run(ROOT / "docs" / "how-to" / "guard.md", names) == 8
    guard, again = names["guard"], names["again"]
    assert torch.equal(names["verdict"].scores, guard(names["new"].images).scores)
    assert (names["verdict"].labels != guard(names["new"].images).labels).any()
    assert guard.classes == tuple("01234567")
    assert float(names["verdict"].is_ood.float().mean()) < 0.12
    images = torch.stack([names["new"].images[0], names["new"].images[-1]])
    assert again(images).to_dict() == guard(images).to_dict()


def test_the_how_to_page_on_watching_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = demo.digits_data()
    guard = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration)
    names: dict[str, Any] = {
        "guard": guard,
        "stream": [sets.test.images[:200], sets.ood["far"]["faces"].images, None],
        "later": sets.test.images[200:300],
    }
    assert run(ROOT / "docs" / "how-to" / "watch.md", names) == 4
    assert names["again"].alarmed
    assert names["monitor"].false_alarm_bound == pytest.approx(0.125)
    assert not names["together"].alarmed
    assert "ALARM at sample 2" in capsys.readouterr().out
    watched = Watch(tmp_path / "log.jsonl")
    list(watched.go_on())
    assert watched.monitor is not None
    assert watched.monitor.samples == 100


def test_the_how_to_page_on_serving_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("prometheus_client")
    testing = pytest.importorskip("starlette.testclient")
    monkeypatch.chdir(tmp_path)
    sets = demo.digits_data()
    guard = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration)
    Image.fromarray(sets.test.images[0, 0].numpy()).save("photo.png")
    litserve = ModuleType("litserve")
    litserve.LitAPI = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "litserve", litserve)
    with testing.TestClient(offmap.serve.app(guard), base_url="http://localhost") as client:
        names: dict[str, Any] = {
            **{"guard": guard, "client": client, "images": sets.test.images[:5]},
            "image": (tmp_path / "photo.png").read_bytes(),
        }
        assert run(ROOT / "docs" / "how-to" / "serve.md", names) == 4
    names["service"].state.service.recorder.stop()
    verdict = guard(sets.test.images[:5])
    assert guard.calibration.promise in capsys.readouterr().out
    assert names["row"]["p_value"] == float(verdict.p_values[0])
    assert names["label"] == verdict.labels.tolist()
    assert names["is_ood"] == verdict.is_ood.tolist()
    hooks = names["GuardAPI"]()
    hooks.setup("cpu")
    asked = [hooks.decode_request({"image": x.tolist()}) for x in sets.test.images[:2]]
    answers = [hooks.encode_response(a) for a in hooks.predict(torch.stack(asked))]
    assert [a["p_value"] for a in answers] == verdict.p_values[:2].tolist()


def test_the_options_and_metrics_of_the_page_on_serving_are_all_of_them() -> None:
    text = (ROOT / "docs" / "how-to" / "serve.md").read_text()
    parser: Any = typer.main.get_command(app)
    options = {name for p in parser.commands["serve"].params for name in p.opts}
    named = set(re.findall(r"`(--[a-z-]+)", text)) - {"--triton"}
    assert len(named) > 15
    assert named <= options
    metrics = set(re.findall(r"`(offmap_\w+)", text))
    assert len(metrics) == 11
