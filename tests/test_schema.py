"""The JSON schema of ``guard.json``: up to date, met by guards, and by nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from scripts.schema import PATH
from scripts.schema import schema as written_anew

import offmap
from offmap import demo
from offmap.errors import StoreError
from offmap.guard import schema

GOLDEN = Path(__file__).parent / "golden" / "guard" / "guard.json"
SCHEMA = json.loads(PATH.read_text())
CHECK = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture(scope="module")
def sets() -> demo.Digits:
    return demo.digits_data()


def record_of(guard: offmap.Guard, folder: Path) -> dict[str, Any]:
    guard.save(folder)
    record: dict[str, Any] = json.loads((folder / "guard.json").read_text())
    return record


@pytest.fixture(scope="module")
def record(sets: demo.Digits, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    guard = offmap.Guard(demo.shipped(), "ReAct(ViM())", normalization=demo.NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration, [0.1, 0.05], confidence=0.9)
    guard.control(sets.test, 0.05)
    return record_of(guard, tmp_path_factory.mktemp("guard"))


def test_the_file_is_that_of_the_types() -> None:
    if PATH.read_text() != written_anew():
        pytest.fail("the types of guard.json changed: update by `python scripts/schema.py`")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert "\\A" not in PATH.read_text()  # which JavaScript does not know
    assert "\\nArgs:\\n    library: " in PATH.read_text()  # the same in each Python


def test_a_full_record_meets_it(record: dict[str, Any]) -> None:
    CHECK.validate(record)
    assert record["control"]["error_rate"] == 0.05
    assert record["calibration"]["confidence"] == 0.9


@pytest.mark.parametrize("kind", ["waiting", "several", "ensemble", "features", "rules", "tokens"])
def test_guards_of_every_kind_meet_it(kind: str, sets: demo.Digits, tmp_path: Path) -> None:
    few, held = sets.train.take(120, 0), sets.calibration
    options: dict[str, Any] = {"normalization": demo.NORMALIZATION}
    if kind == "waiting":
        guard = offmap.Guard(demo.shipped(), "klmatching", **options).fit(few)
    elif kind == "several":
        guard = offmap.Guard(demo.shipped(), ["energy", "Combine([msp, entropy])"], **options)
        guard.fit(few).calibrate(held, 0.1)
    elif kind == "ensemble":
        both = offmap.networks.Ensemble([demo.shipped(), demo.shipped()])
        guard = offmap.Guard(both, "MemberMean(mahalanobis)", **options).fit(few)
    elif kind == "features":
        x = torch.randn(80, 6)
        guard = offmap.Guard(torch.nn.Identity(), "mahalanobis", outputs="features")
        guard.fit([(x, torch.arange(80) % 2)])
    elif kind == "rules":
        guard = offmap.Guard(demo.shipped(), "gram", **options).fit(few)
    else:
        embed = torch.nn.EmbeddingBag(20, 8)
        guard = offmap.Guard(Tokens(embed, torch.nn.Linear(8, 3)), "mahalanobis")
        ids = torch.arange(200).reshape(40, 5) % 20
        guard.fit([{"input_ids": ids, "labels": torch.arange(40) % 3}])
    CHECK.validate(record_of(guard, tmp_path))
    assert schema.read(tmp_path)[0]["detectors"]


class Tokens(torch.nn.Sequential):
    def forward(self, input_ids: torch.Tensor) -> Any:
        return super().forward(input_ids)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"version": 3}, "version"),
        ({"unknown": 1}, "unknown"),
        ({"classes": 7}, "classes"),
        ({"detectors": []}, "detectors"),
        ({"detectors": [{"detector": "msp"}]}, "arguments"),
        ({"calibration": {"rule": "fisher"}}, "calibration"),
        ({"network_sha256": "0" * 63}, "network_sha256"),
        ({"outputs": "anything"}, "outputs"),
        ({"files": {"state": {"name": "../x.safetensors", "sha256": "0" * 64}}}, "files"),
        ({"read": {"fit": {"samples": -1, "accuracy": None, "dtype": None}}}, "samples"),
    ],
)
def test_what_is_no_guard_is_refused_by_schema_and_reader(
    change: dict[str, Any], where: str, record: dict[str, Any], tmp_path: Path
) -> None:
    wrong = record | change
    assert not CHECK.is_valid(wrong)
    (tmp_path / "guard.json").write_text(json.dumps(wrong))
    with pytest.raises(StoreError, match=f"{where}.*offmap fit|version 3"):
        schema.read(tmp_path)


def test_a_guard_of_the_earlier_format_does_not_meet_it() -> None:
    wrong = {error.json_path for error in CHECK.iter_errors(json.loads(GOLDEN.read_text()))}
    assert "$.version" in wrong
