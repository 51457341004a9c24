"""The store refuses what it cannot read; that it reads what it wrote is in the contract."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import offmap
from offmap._utils import records
from offmap.detectors import _store as store
from offmap.errors import StoreError
from tests.conftest import World


@pytest.fixture
def folder(world: World, tmp_path: Path) -> Path:
    store.save(offmap.ReAct(offmap.ViM(4)).fit(world.batches(), head=world.head), tmp_path)
    return tmp_path


def state_file(folder: Path) -> Path:
    (path,) = folder.glob("state-*.safetensors")
    return path


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((folder / "detector.json").read_text())
    change(record)
    (folder / "detector.json").write_text(json.dumps(record))


def test_the_record_says_what_it_is(folder: Path) -> None:
    record = json.loads((folder / "detector.json").read_text())
    assert record["format"] == "offmap detector"
    assert record["detector"] == "react"
    assert record["arguments"]["inner"] == {"detector": "vim", "arguments": {"dim": 4}}
    content = state_file(folder).read_bytes()
    assert record["files"]["state"]["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("which", ["record", "state"])
@pytest.mark.parametrize("damage", ["gone", "cut", "noise", "one bit"])
def test_a_damaged_file_is_named(folder: Path, which: str, damage: str) -> None:
    path = folder / "detector.json" if which == "record" else state_file(folder)
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        flipped = bytes([content[0] ^ 1]) + content[1:]
        path.write_bytes(
            {"cut": content[: len(content) // 2], "noise": b"\x00\xff" * 40}.get(damage, flipped)
        )
    with pytest.raises(StoreError, match=path.name):
        store.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"format": "offmap guard"},
        {"detector": "posix.system"},
        {"arguments": {"inner": "os.system('true')"}},
        {"arguments": {"inner": {"detector": "vim"}, "surprise": 1}},
        {"arguments": [1]},
        {"files": None},
        {"files": {"state": {"name": "../../secret.safetensors", "sha256": ""}}},
        {"files": {"state": {"name": "/etc/passwd", "sha256": ""}}},
        {"files": {"state": "state.safetensors"}},
        {"files": {}},
    ],
)
def test_a_record_that_is_not_ours_is_refused(folder: Path, change: dict[str, object]) -> None:
    edit(folder, lambda record: record.update(change))
    with pytest.raises(StoreError):
        store.load(folder)


@pytest.mark.parametrize(
    "text",
    ['{"version":' + "[" * 200_000, '{"version": 1' + "0" * 10_000 + "}", '{"a": NaN}', "7", ""],
)
def test_hostile_json_is_refused(folder: Path, text: str) -> None:
    (folder / "detector.json").write_text(text)
    with pytest.raises(StoreError):
        store.load(folder)


@pytest.mark.parametrize("change", ["more", "less"])
def test_state_that_does_not_belong_is_refused(folder: Path, change: str) -> None:
    path = state_file(folder)
    state = load_file(path)
    if change == "more":
        state["inner.training"] = torch.ones(1)
    else:
        del state["parts.0.alpha_"]
    save_file(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(folder, lambda record: record["files"]["state"].update(sha256=digest))
    with pytest.raises(StoreError, match=r"inner\.training" if change == "more" else "lacks part"):
        store.load(folder)


def test_saving_again_leaves_only_the_new_state(folder: Path, world: World) -> None:
    (folder / "mine.safetensors").write_bytes(b"somebody else's")
    store.save(offmap.ViM(5).fit(world.batches(), head=world.head), folder)
    assert repr(store.load(folder)) == "ViM(dim=5)"
    names = {p.name for p in folder.iterdir()} - {state_file(folder).name}
    assert names == {"detector.json", "mine.safetensors"}


def test_another_kind_of_record_in_the_folder_stays(folder: Path) -> None:
    records.write(folder, "guard", {}, {"state": {"x": torch.ones(3)}})
    records.write(folder, "guard", {}, {"state": {"x": torch.zeros(3)}})
    assert store.load(folder).fitted
    assert torch.equal(records.read(folder, "guard")[1]["state"]["x"], torch.zeros(3))


SAVER = """
import sys, torch, itertools
from offmap import MaxLogit, KNN, Activations\nfrom offmap.detectors import _store as store
def fitted(k):
    x = torch.full((400, 64), float(k)) + torch.eye(64).repeat(7, 1)[:400]
    return KNN(k).fit([(Activations(x, x), None)])
both = [fitted(1), fitted(2)]
store.save(both[0], sys.argv[1])
print("ready", flush=True)
for made in itertools.cycle(both):
    store.save(made, sys.argv[1])
"""


@pytest.mark.parametrize("delay", [0.002, 0.017, 0.051])
def test_a_saver_that_is_killed_leaves_the_old_state_or_the_new(
    tmp_path: Path, delay: float
) -> None:
    saver = subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE)
    assert saver.stdout is not None
    assert saver.stdout.readline() == b"ready\n"
    time.sleep(delay)
    os.kill(saver.pid, signal.SIGKILL)
    saver.wait()
    saver.stdout.close()
    loaded = store.load(tmp_path)
    assert isinstance(loaded, offmap.KNN)
    assert float(loaded.bank_.norm(dim=1).min()) > 0
