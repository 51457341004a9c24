"""The store refuses what it cannot read; that it reads what it wrote is in the contract."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import offmap
from offmap import store
from offmap.errors import StoreError
from tests.conftest import World


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    store.save(offmap.ReAct(offmap.ViM(4)).fit(world.batches(), head=world.head), tmp_path)
    return tmp_path


def test_the_record_says_what_it_is(folder: Path) -> None:
    record = json.loads((folder / "detector.json").read_text())
    assert record["detector"] == "react"
    assert record["arguments"]["inner"] == {"detector": "vim", "arguments": {"dim": 4}}


@pytest.mark.parametrize("name", ["detector.json", "state.safetensors"])
@pytest.mark.parametrize("damage", ["gone", "cut", "noise"])
def test_a_damaged_file_is_named(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    if damage == "gone":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"\x00\xff" * 40)
    with pytest.raises(StoreError, match=name):
        store.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"detector": "posix.system"},
        {"arguments": {"inner": "os.system('true')"}},
        {"arguments": {"inner": {"detector": "vim"}, "surprise": 1}},
        {"arguments": [1]},
    ],
)
def test_a_record_that_is_not_ours_is_refused(folder: Path, change: dict[str, object]) -> None:
    path = folder / "detector.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError):
        store.load(folder)


def test_deep_nesting_is_refused(folder: Path) -> None:
    (folder / "detector.json").write_text('{"version":' + "[" * 200_000)
    with pytest.raises(StoreError):
        store.load(folder)


def test_state_that_does_not_belong_is_refused(folder: Path) -> None:
    path = folder / "state.safetensors"
    state = load_file(path)
    save_file(state | {"inner.training": torch.ones(1)}, path)
    with pytest.raises(StoreError, match=r"inner\.training"):
        store.load(folder)
    del state["inner.alpha_"]
    save_file(state, path)
    with pytest.raises(StoreError, match="lacks part"):
        store.load(folder)
