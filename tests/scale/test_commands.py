"""What the commands hand on to the workers, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import offmap
from offmap import demo, scale
from offmap.cli import main

Call = Callable[[str], tuple[int, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def run(line: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(line.split())
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the workers were asked for; this process does it."""
    asked: dict[str, Any] = {}

    def fit(guard: offmap.Guard, data: Any, *, batch_size: int, **how: Any) -> None:
        asked["fit"] = how
        guard.fit(data, batch_size=batch_size)

    def calibrate(
        guard: offmap.Guard, data: Any, alarm_rate: Any, *, workers: int, device: Any, **rule: Any
    ) -> None:
        asked["calibrate"] = {"workers": workers, "device": device}
        guard.calibrate(data, alarm_rate, **rule)

    monkeypatch.setattr(scale, "fit", fit)
    monkeypatch.setattr(scale, "calibrate", calibrate)
    return asked


def test_fit_and_calibrate_hand_on_what_they_were_given(
    call: Call, asked: dict[str, Any], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    save_file(demo.shipped().state_dict(), tmp_path / "w.safetensors")
    network = f"--model digits_cnn --weights {tmp_path}/w.safetensors --normalization 0.305/0.376"
    data = "--data embedded:digits"
    words = f"fit {network} {data} --detectors knn --out {tmp_path}/g --engine ray --workers 3"
    status, said = call(words)
    assert (status, asked["fit"]) == (0, {"workers": 3, "device": None}), said
    words = f"calibrate {tmp_path}/g --data embedded:textures --size 8 --engine ray --device cuda"
    status, said = call(words)
    assert (status, asked["calibrate"]) == (0, {"workers": 2, "device": "cuda"}), said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--workers 2", "--workers are those of an engine: give --engine ray beside it"),
        ("--engine spark", "--engine spark: there is ray; leave it out for one process"),
    ],
)
@pytest.mark.parametrize(
    "command",
    ["score G photos --out v.csv", "calibrate G --data d", "fit --model a --data d --out G"],
)
def test_what_is_no_engine_is_refused_before_anything_is_read(
    call: Call, command: str, words: str, said: str
) -> None:
    assert call(f"{command} {words}") == (1, f"offmap: {said}\n")


def test_rows_are_for_one_process(tmp_path: Path) -> None:
    import torch

    from offmap.errors import ArgumentError
    from offmap.guard.files import score_files

    x = torch.randn(100, 4)
    guard = offmap.Guard(torch.nn.Identity(), "KNN(k=3)", outputs="features")
    guard.fit([x]).calibrate([torch.randn(50, 4)])
    with pytest.raises(ArgumentError, match="rows of text or features are scored by one process"):
        score_files(guard, ["a.jsonl"], tmp_path / "v.csv", spread=lambda reading, spans: [])
