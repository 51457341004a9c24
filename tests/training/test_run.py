"""Runs: what is written, and what survives interruption."""

from __future__ import annotations

import copy
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from offmap._utils.files import put_on_disk
from offmap.cli import main
from offmap.data import ImageSet, embedded
from offmap.errors import (
    ArgumentError,
    DataError,
    DataNotFoundError,
    LabelError,
    LeftOutWarning,
    NonFiniteError,
    ShapeError,
    StoreError,
)
from offmap.networks import DigitsCNN, Ensemble, build
from offmap.networks.card import read as read_card
from offmap.training import Epoch, Recipe, Sets, train
from offmap.training.folder import begin, finished, machine
from offmap.training.publish import portable, publish
from offmap.training.sets import load as load_sets

# Dropout, a crop, a flip and an average: each draws or keeps something that resuming could lose.
RECIPE = Recipe(
    network="digits_cnn",
    data="embedded:digits",
    normalization="0.305/0.376",
    crop=1,
    flip=True,
    optimizer="adam",
    lr=2e-3,
    schedule="cosine",
    epochs=4,
    batch_size=64,
    precision="fp32",
    ema=0.9,
)


@pytest.fixture(scope="module")
def sets() -> Sets:
    validation, train = embedded("digits").only(range(8)).split(0.3)
    return Sets(train, validation)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sets: Sets) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("run") / "whole"
    train(RECIPE, out, sets=sets)
    return out


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "weights.safetensors")


def same(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def without_seconds(out: Path) -> list[str]:
    """The lines of ``metrics.csv``, whose last column is the seconds."""
    lines = (out / "metrics.csv").read_text().splitlines()
    return [line.rpartition(",")[0] for line in lines]


class StopError(Exception):
    """Stands for whatever stops a run."""


def stop_at(number: int) -> Callable[[Epoch], None]:
    def stop(epoch: Epoch) -> None:
        if epoch.number == number:
            raise StopError

    return stop


def test_it_learns_and_says_so(whole: Path, sets: Sets) -> None:
    with (whole / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    card = json.loads((whole / "card.json").read_text())
    assert card["accuracy"] == float(rows[-1]["validation_accuracy"]) > 0.6
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    network = DigitsCNN(8)
    network.load_state_dict(weights(whole))
    logits = network.eval()((sets.validation.images / 255 - 0.305) / 0.376)
    right = (logits.argmax(1) == sets.validation.labels).double().mean()
    assert float(right) == pytest.approx(card["accuracy"], abs=2 / len(sets.validation))


def test_one_process_at_a_time_trains_in_a_folder(sets: Sets, tmp_path: Path) -> None:
    """Else the record of one would stand beside the weights of the other."""
    said = []

    def other(epoch: Epoch) -> None:
        with pytest.raises(StoreError, match="another process trains in") as refused:
            train(recipe, tmp_path / "run", sets=sets, resume=True)
        said.append(refused)

    recipe = replace(RECIPE, epochs=1)
    train(recipe, tmp_path / "run", sets=sets, after_epoch=[other])
    assert len(said) == 1
    assert not (tmp_path / "run" / ".lock").exists()


def test_the_folder_says_how_to_repeat_it(whole: Path, sets: Sets) -> None:
    record = json.loads((whole / "run.json").read_text())
    assert Recipe.of(record["recipe"]) == RECIPE
    assert record["data"]["train"]["fingerprint"] == sets.train.fingerprint
    assert {"python", "torch", "lightning", "offmap"} <= set(record["versions"])


def test_data_that_a_program_gave_are_not_those_of_the_recipe(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Repeated by its recipe alone, the run was trained on other data, without a word."""
    assert json.loads((whole / "run.json").read_text())["given"] is True
    again = ["train", "--recipe", str(whole / "run.json"), "--print-config"]
    with pytest.raises(SystemExit):
        main([*again, "--out", str(tmp_path)])
    told = capsys.readouterr().err
    assert f"a program gave the data of {whole / 'run.json'}" in told
    assert "say what to train on by --set data=..." in told
    with pytest.raises(SystemExit) as ended:
        main([*again, "--set", "data=embedded:digits"])
    assert not ended.value.code
    named = RECIPE.but({"epochs": 1})
    begun = begin(tmp_path / "named", named, load_sets(named), {})
    assert "given" not in begun


@pytest.mark.parametrize("number", [1, 3])
def test_a_resumed_run_ends_in_the_same_bits(
    number: int, whole: Path, tmp_path: Path, sets: Sets
) -> None:
    with pytest.raises(StopError):
        train(RECIPE, tmp_path, sets=sets, after_epoch=[stop_at(number)])
    assert not (tmp_path / "weights.safetensors").exists()
    train(RECIPE, tmp_path, sets=sets, resume=True)
    assert same(tmp_path, whole)
    plain = [without_seconds(out) for out in (tmp_path, whole)]
    assert plain[0] == plain[1]


def test_a_run_stopped_before_its_weights_were_written_is_finished_by_resuming(
    whole: Path, tmp_path: Path, sets: Sets
) -> None:
    with pytest.raises(StopError):
        train(RECIPE, tmp_path, sets=sets, after_epoch=[stop_at(RECIPE.epochs)])
    train(RECIPE, tmp_path, sets=sets, resume=True)
    assert same(tmp_path, whole)


def test_figures_that_an_interruption_left_out_are_written(tmp_path: Path, sets: Sets) -> None:
    """A kill between the last checkpoint and the table left it without its last line for good."""
    with pytest.raises(StopError):
        train(RECIPE, tmp_path, sets=sets, after_epoch=[stop_at(RECIPE.epochs)])
    (tmp_path / "metrics.csv").unlink()
    train(RECIPE, tmp_path, sets=sets, resume=True)
    assert len(without_seconds(tmp_path)) == 1 + RECIPE.epochs


def test_weights_that_were_kept_are_not_mixed_with_those_of_another_run(
    tmp_path: Path, sets: Sets
) -> None:
    with pytest.raises(StopError):
        train(RECIPE, tmp_path, sets=sets, keep_every=1, after_epoch=[stop_at(2)])
    (tmp_path / "last.ckpt").unlink()  # as the message of a damaged one says
    with pytest.raises(ArgumentError, match="holds a run: give --resume"):
        train(RECIPE, tmp_path, sets=sets)
    with pytest.raises(ArgumentError, match="another recipe"):
        train(RECIPE.but({"seed": 1}), tmp_path, sets=sets, resume=True)
    with pytest.raises(StopError):
        train(RECIPE, tmp_path, sets=sets, resume=True, after_epoch=[stop_at(1)])


@pytest.mark.parametrize("number", [2, 4])
def test_who_was_interrupted_is_told_again(number: int, tmp_path: Path, sets: Sets) -> None:
    """Also of the last epoch, behind which nothing is left to train."""
    with pytest.raises(StopError):
        train(RECIPE, tmp_path, sets=sets, after_epoch=[stop_at(number)])
    told: list[int] = []
    train(RECIPE, tmp_path, sets=sets, resume=True, after_epoch=[lambda e: told.append(e.number)])
    assert told == list(range(number, RECIPE.epochs + 1))


def test_a_finished_run_is_not_trained_again(whole: Path, sets: Sets) -> None:
    seen: list[Epoch] = []
    network = train(RECIPE, whole, sets=sets, resume=True, after_epoch=[seen.append])
    assert not seen
    assert not network.training
    assert all(torch.equal(x, weights(whole)[k]) for k, x in network.state_dict().items())


def test_a_trained_network_is_laid_out_as_one_that_is_read(tmp_path: Path, sets: Sets) -> None:
    trained = train(RECIPE.but({"epochs": 1}), tmp_path, sets=sets)
    read = finished(tmp_path)[1]
    for name, weights in trained.state_dict().items():
        assert weights.stride() == read[name].stride(), name


def test_the_seed_decides(whole: Path, tmp_path: Path, sets: Sets) -> None:
    state = torch.random.get_rng_state()
    train(RECIPE.but({"seed": 1}), tmp_path / "other", sets=sets)
    assert not same(tmp_path / "other", whole)
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's draws go on as before


def test_without_a_console_it_trains_all_the_same(
    tmp_path: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    train(replace(RECIPE, epochs=1), tmp_path / "run", sets=sets)
    assert finished(tmp_path / "run")


def test_two_runs_do_not_share_a_folder(whole: Path, sets: Sets) -> None:
    with pytest.raises(ArgumentError, match="holds a run: give --resume"):
        train(RECIPE, whole, sets=sets)
    with pytest.raises(ArgumentError, match=r"another recipe \(lr: 0.002, now 0.5\)"):
        train(RECIPE.but({"lr": 0.5}), whole, sets=sets, resume=True)


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path, sets: Sets) -> None:
    with pytest.raises(StopError):
        train(RECIPE, tmp_path, sets=sets, after_epoch=[stop_at(1)])
    other = Sets(sets.train.take(500), sets.validation)
    with pytest.raises(DataError, match="began with other train data"):
        train(RECIPE, tmp_path, sets=other, resume=True)


@pytest.fixture
def python_takes_ctrl_c() -> Iterator[None]:
    """As in a program of its own: who runs tests on several cores ignores it in their processes."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_takes_ctrl_c")
def test_ctrl_c_stays_ctrl_c(tmp_path: Path, sets: Sets) -> None:
    def interrupt(epoch: Epoch) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, tmp_path, sets=sets, after_epoch=[interrupt])
    assert signal.getsignal(signal.SIGINT) is before
    train(RECIPE, tmp_path, sets=sets, resume=True)


def test_a_damaged_record_is_no_reason_to_overwrite(tmp_path: Path, sets: Sets) -> None:
    (tmp_path / "run.json").write_text("{")
    (tmp_path / "last.ckpt").write_text("")
    with pytest.raises(StoreError, match="cannot be read"):
        train(RECIPE, tmp_path, sets=sets, resume=True)


def test_a_checkpoint_without_its_record_is_named(tmp_path: Path, sets: Sets) -> None:
    (tmp_path / "last.ckpt").write_text("")
    with pytest.raises(StoreError, match=r"there is no run\.json: `offmap train` makes one"):
        train(RECIPE, tmp_path, sets=sets, resume=True)


def test_a_mixing_set_that_is_none_is_named(sets: Sets) -> None:
    made = RECIPE.but({"pixmix": {"mixing_set": "fractals:many"}})
    with pytest.raises(ArgumentError, match="fractals:N or a folder"):
        Sets.of(made, sets.train, sets.validation)


def test_outliers_and_pictures_that_are_too_large_to_keep_are_refused(
    tmp_path: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        Image.new("L", (8, 8), 50 * i).save(tmp_path / f"{i}.png")
    monkeypatch.setattr("offmap.training.sets._LIMIT", 10)
    outliers = {"objective": "outlier_exposure", "outliers": str(tmp_path)}
    for changes in (outliers, {"pixmix": {"mixing_set": str(tmp_path)}}):
        with pytest.raises(DataError, match="larger than 32 GiB"):
            Sets.of(RECIPE.but(changes), sets.train, sets.validation)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, sets: Sets) -> None:
    hot = RECIPE.but({"optimizer": "sgd", "lr": 1e12, "schedule": "constant", "ema": 0.0})
    with pytest.raises(NonFiniteError, match="lower lr"):
        train(hot, tmp_path, sets=sets)
    assert not (tmp_path / "last.ckpt").exists()


def test_data_that_cannot_be_trained_on_is_refused(sets: Sets) -> None:
    unlabelled = ImageSet("mine", sets.train.images)
    with pytest.raises(LabelError):
        Sets(unlabelled, sets.validation)
    with pytest.raises(DataError, match="uint8"):
        Sets(ImageSet("mine", sets.train.images.float(), sets.train.labels), sets.validation)
    larger = ImageSet("mine", torch.zeros(4, 1, 9, 9, dtype=torch.uint8), torch.zeros(4).long())
    with pytest.raises(ShapeError, match=r"images of mine are 1x9x9, and those of .* 1x8x8"):
        Sets(sets.train, larger)


def test_what_a_recipe_names_is_loaded_beside_data_of_the_callers(
    tmp_path: Path, sets: Sets
) -> None:
    """A recipe with PixMix was trained without it, and its card said that it was with."""
    pixmix = RECIPE.but({"pixmix": {"mixing_set": "fractals:8", "k": 2}, "epochs": 1})
    named = sets.with_named(pixmix)
    train(pixmix, tmp_path / "ours", sets=sets)
    train(pixmix, tmp_path / "theirs", sets=named)
    assert same(tmp_path / "ours", tmp_path / "theirs")
    data = json.loads((tmp_path / "ours" / "run.json").read_text())["data"]
    assert data["mixing"]["images"] == 8
    with pytest.raises(ArgumentError, match="the recipe has no pixmix"):
        train(RECIPE, tmp_path / "none", sets=named)
    exposed = {"objective": "outlier_exposure", "outliers": "embedded:text"}
    outliers = sets.with_named(RECIPE.but(exposed))
    assert outliers.outliers is not None
    assert outliers.with_named(RECIPE.but(exposed)).outliers is outliers.outliers
    with pytest.raises(ArgumentError, match="cross_entropy makes no use of them"):
        train(RECIPE, tmp_path / "none", sets=outliers)
    assert not (tmp_path / "none").exists()


def test_colours_of_grey_images_cannot_be_changed(tmp_path: Path, sets: Sets) -> None:
    with pytest.raises(ArgumentError, match=r"set jitter to \[0.2, 0.1, 0, 0\]"):
        train(RECIPE.but({"jitter": [0.2, 0.1, 0.1, 0]}), tmp_path / "run", sets=sets)
    assert not (tmp_path / "run").exists()
    train(RECIPE.but({"jitter": [0.2, 0.1, 0, 0], "epochs": 1}), tmp_path / "run", sets=sets)


def test_labels_beyond_the_networks_classes_are_refused(tmp_path: Path, sets: Sets) -> None:
    whole = embedded("digits")
    with pytest.raises(LabelError, match="go up to 9, and the network DigitsCNN has 8 outputs"):
        train(RECIPE, tmp_path, sets=Sets(whole, whole))


@pytest.mark.parametrize("missing", ["lightning", "kornia"])
def test_without_the_extra_it_says_how_to_get_it(missing: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from offmap.cli import main\n"
        f"main(['train', '--recipe', 'digits', '--out', {str(tmp_path / 'run')!r}, '--set',"
        " 'network=digits_cnn(classes=10)'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'offmap[train]'" in done.stderr.splitlines()[-1]
    listed = (
        f"import sys; sys.modules[{missing!r}] = None; from offmap.cli import main; main(['list'])"
    )
    assert (
        subprocess.run([sys.executable, "-c", listed], capture_output=True, check=False).returncode
        == 0
    )


def test_two_devices_share_the_work_and_write_one_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "offmap", "train", "--recipe", "digits"]
    command += ["--out", str(tmp_path / "run"), "--device", "cpu", "--devices", "2"]
    changes = ["network=digits_cnn(classes=10)", "epochs=3", "ema=0.5"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--set", *changes], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 3/3") == done.stdout.count("Written to") == 1
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert card["accuracy"] > 0.6
    with (tmp_path / "run" / "metrics.csv").open() as file:
        # The figures are of all images that were trained on, 50 batches of 32, and not of half.
        right = [float(row["train_accuracy"]) * 1600 for row in csv.DictReader(file)]
    assert right == pytest.approx([round(x) for x in right], abs=1e-2)


@pytest.mark.parametrize("name", ["batch_size", "outlier_batch", "contrast_batch"])
def test_batches_smaller_than_the_devices_are_many_are_refused(
    name: str, tmp_path: Path, sets: Sets
) -> None:
    with pytest.raises(ArgumentError, match=f"{name} of 3 leaves some of 4 devices without"):
        train(RECIPE.but({name: 3}), tmp_path / "run", sets=sets, devices=4)
    assert not (tmp_path / "run").exists()


def test_a_validation_set_of_other_classes_is_refused(tmp_path: Path, sets: Sets) -> None:
    wider = embedded("digits")
    assert wider.labels is not None
    with pytest.raises(LabelError, match="are not those of"):
        Sets(sets.train, wider)
    unnamed = ImageSet("mine", wider.images, wider.labels)
    with pytest.raises(LabelError, match="labels of mine go up to 9"):
        train(RECIPE, tmp_path, sets=Sets(sets.train, unnamed))
    with pytest.warns(UserWarning, match=r"has 12 outputs.*classes=8 meant"):
        train(RECIPE.but({"network": "digits_cnn(classes=12)", "epochs": 1}), tmp_path, sets=sets)


def test_images_that_the_network_does_not_take_are_refused(tmp_path: Path, sets: Sets) -> None:
    coloured = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 8))
    with pytest.raises(ShapeError, match="Sequential does not take images of 1x8x8"):
        train(RECIPE, tmp_path, sets=sets, network=coloured)
    # A start that failed has left nothing behind, so the folder is free for the next one.
    train(RECIPE.but({"epochs": 1}), tmp_path, sets=sets)


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04 half of an archive"])
def test_a_damaged_checkpoint_is_named(content: bytes, tmp_path: Path, sets: Sets) -> None:
    with pytest.raises(StopError):
        train(RECIPE, tmp_path, sets=sets, after_epoch=[stop_at(1)])
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(StoreError, match=r"last.ckpt cannot be read: delete it"):
        train(RECIPE, tmp_path, sets=sets, resume=True)


@pytest.mark.parametrize("error", [PermissionError("not yours"), MemoryError()])
def test_a_checkpoint_that_may_be_whole_is_not_to_be_deleted(
    error: Exception, tmp_path: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StopError):
        train(RECIPE, tmp_path, sets=sets, after_epoch=[stop_at(1)])

    def load(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("offmap.training.trainer.torch.load", load)
    with pytest.raises(StoreError, match=r"last.ckpt cannot be read: (not yours|.*memory)$"):
        train(RECIPE, tmp_path, sets=sets, resume=True)


def test_a_checkpoint_is_on_the_disk_before_it_takes_the_place_of_the_last(
    tmp_path: Path, sets: Sets, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    replace_ = os.replace

    def synced(path: Path) -> None:
        steps.append("sync")
        put_on_disk(path)

    def replaced(old: Any, new: Any) -> None:
        if Path(new).name == "last.ckpt":
            steps.append("replace")
        replace_(old, new)

    monkeypatch.setattr("offmap.training.keeper.put_on_disk", synced)
    monkeypatch.setattr("offmap.training.keeper.os.replace", replaced)
    train(RECIPE.but({"epochs": 2}), tmp_path, sets=sets)
    assert steps == ["sync", "replace"] * 2


def test_unreadable_images_do_not_go_unnoticed(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(4):
            Image.new("L", (8, 8), 40 * i).save(tmp_path / label / f"{i}.png")
    (tmp_path / "a" / "broken.png").write_bytes(b"no picture")
    with pytest.warns(LeftOutWarning, match=r"1 unreadable, first .*broken.png"):
        found = load_sets(RECIPE.but({"data": str(tmp_path), "holdout": 0.25}))
    assert len(found.train) + len(found.validation) == 8


def test_a_finished_run_is_not_taken_for_one_on_other_data(whole: Path, sets: Sets) -> None:
    other = Sets(sets.validation, sets.train)
    with pytest.raises(DataError, match="began with other train data"):
        train(RECIPE, whole, sets=other, resume=True)
    network = build(RECIPE.network)
    with pytest.raises(DataError, match="started from other weights"):
        train(RECIPE, whole, sets=sets, network=network, resume=True)


def test_corrected_labels_are_other_data(tmp_path: Path, sets: Sets) -> None:
    with pytest.raises(StopError):
        train(RECIPE, tmp_path, sets=sets, after_epoch=[stop_at(1)])
    corrected = replace(sets.train, labels=7 - sets.train.labels)
    with pytest.raises(DataError, match="began with other train labels"):
        train(RECIPE, tmp_path, sets=Sets(corrected, sets.validation), resume=True)


def test_a_resumed_run_keeps_the_command_and_budget_of_its_start(
    tmp_path: Path, sets: Sets
) -> None:
    begun, resumed = ({"budget": b, "command": f"train {b}"} for b in ("full", "cpu"))
    with pytest.raises(StopError):
        train(RECIPE, tmp_path, sets=sets, after_epoch=[stop_at(1)], settings=begun)
    train(RECIPE, tmp_path, sets=sets, resume=True, settings=resumed)
    for name in ("run.json", "card.json"):
        assert json.loads((tmp_path / name).read_text()).items() >= begun.items()


class ByConvolution(nn.Module):
    """A classifier without a linear layer."""

    def __init__(self, kind: type = Tensor) -> None:
        super().__init__()
        self.head, self.kind = nn.Conv2d(1, 8, 8), kind

    def forward(self, x: Tensor) -> Any:
        z = self.head(x).flatten(1)
        return {"logits": z} if self.kind is dict else z


def test_a_network_needs_no_linear_layer(tmp_path: Path, sets: Sets) -> None:
    short = RECIPE.but({"epochs": 1})
    train(short, tmp_path, sets=sets, network=ByConvolution())
    with pytest.raises(ShapeError, match="ByConvolution returned dict"):
        train(short, tmp_path / "dict", sets=sets, network=ByConvolution(dict))


class ByView(nn.Module):
    """Flattens as many networks do, which feature maps in channels last do not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.head = nn.Conv2d(1, 4, 3), nn.Linear(144, 8)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.head(self.maps(x).view(len(x), -1))
        return z


@pytest.mark.parametrize("members", [0, 2])
def test_a_network_that_flattens_by_view_is_trained(
    members: int, tmp_path: Path, sets: Sets
) -> None:
    network = Ensemble([ByView() for _ in range(members)]) if members else ByView()
    train(RECIPE.but({"epochs": 1}), tmp_path, sets=sets, network=network)
    assert finished(tmp_path)[0].epochs == 1


class Tied(nn.Module):
    """Two layers have one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 8)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.head(self.second(self.first(x.flatten(1)).relu()).relu())
        return z


def test_weights_that_layers_share_are_kept(tmp_path: Path, sets: Sets) -> None:
    train(RECIPE.but({"epochs": 1}), tmp_path, sets=sets, network=Tied(), keep_every=1)
    kept = load_file(tmp_path / "epochs" / "0001.safetensors")
    assert torch.equal(kept["second.weight"], weights(tmp_path)["first.weight"])


def test_the_machine_is_that_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: f"GPU {device}")
    assert machine(torch.device("cuda:1")) == "GPU cuda:1"
    assert machine() == "GPU None"
    assert "GPU" not in machine(torch.device("cpu"))


def test_one_device_is_not_asked_to_be_several(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sets: Sets
) -> None:
    monkeypatch.setattr("offmap.training._checks.as_device", torch.device)
    with pytest.raises(ArgumentError, match="cuda:1 is one device, and 2 are asked for"):
        train(RECIPE, tmp_path, sets=sets, device="cuda:1", devices=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_named(tmp_path: Path, sets: Sets) -> None:
    with pytest.raises(ArgumentError, match="torch sees no such device"):
        train(RECIPE, tmp_path, sets=sets, device="cuda")


def start(out: Path) -> subprocess.Popen[bytes]:
    changes = [f"{k}={json.dumps(v)}" for k, v in RECIPE.record().items()]
    changes.append("network=digits_cnn(classes=10)")
    command = [sys.executable, "-m", "offmap", "train", "--recipe", "plain", "--resume"]
    command += ["--out", str(out), "--set", *changes]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OFFMAP_DATA": ""}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def test_what_is_published_is_measured_as_it_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = "anchor_head(network='digits_cnn(classes=10)')"
    made = RECIPE.but({"network": network, "objective": "class_anchors", "epochs": 1, "ema": 0.0})
    began = "offmap train --recipe plain --out '/my runs/1' --set epochs=1"
    train(made, tmp_path / "run", settings={"budget": "smoke", "command": began})
    card, trained = finished(tmp_path / "run")
    moved = dict(trained) | {"anchors": trained["anchors"] + 0.01}  # no bfloat16 is 10.01
    monkeypatch.setattr("offmap.training.publish.finished", lambda _: (card, moved))
    measured: list[Tensor] = []

    def validated(network: nn.Module, *_: Any) -> tuple[float, float]:
        measured.append(network.get_buffer("anchors").clone())
        return 0.0, 0.5

    monkeypatch.setattr("offmap.training.publish.validated", validated)
    path = publish(tmp_path / "run", "mine", folder=tmp_path)
    assert torch.equal(measured[0], load_file(path)["anchors"].float())
    assert not torch.equal(measured[0], moved["anchors"])
    # The folder was one of the machine that trained it.
    command = read_card(path.with_suffix(".json")).command
    assert command == "offmap train --recipe plain --set epochs=1"


@pytest.mark.parametrize("out", ["--out '/my runs/1'", "--out=/my/runs", "'--out=/my runs/1'"])
def test_a_published_command_names_no_folder_however_that_was_typed(out: str) -> None:
    assert portable(f"offmap train {out} --set epochs=1") == "offmap train --set epochs=1"


def test_a_run_begun_from_python_can_be_published(tmp_path: Path) -> None:
    made = RECIPE.but({"network": "digits_cnn(classes=10)", "epochs": 1, "limit": 300})
    train(made, tmp_path / "run")
    path = publish(tmp_path / "run", "mine", folder=tmp_path)
    card = read_card(path.with_suffix(".json"))
    assert (card.budget, card.command, card.epochs) == (None, None, 1)


def test_what_was_validated_on_other_labels_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = RECIPE.but({"network": "digits_cnn(classes=10)", "epochs": 1})
    train(made, tmp_path / "run", settings={"budget": "smoke", "command": "offmap train"})
    held, rest = embedded("digits").split(made.holdout, seed=made.seed)
    assert held.labels is not None
    corrected = replace(held, labels=9 - held.labels)
    monkeypatch.setattr("offmap.training.sets.known", lambda _: (rest, corrected))
    with pytest.raises(DataError, match=r"does not hold the labels that .* was validated on"):
        publish(tmp_path / "run", "mine", folder=tmp_path)


def test_a_killed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL at a random moment after the first epoch, then resumed: no torn file, equal bits."""
    assert start(tmp_path / "whole").wait() == 0
    running = start(tmp_path / "killed")
    while not (tmp_path / "killed" / "last.ckpt").exists():
        assert running.poll() is None
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.5))
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert start(tmp_path / "killed").wait() == 0
    assert same(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("file", [".", "weights.safetensors"])
def test_a_recipe_may_start_from_weights(
    file: str, whole: Path, tmp_path: Path, sets: Sets
) -> None:
    begun = tmp_path / "begun"
    shutil.copytree(whole, begun)
    on = RECIPE.but({"start": str(begun / file), "lr": 1e-30, "epochs": 2, "ema": 0.0})
    with pytest.raises(StopError):
        train(on, tmp_path / "on", sets=sets, after_epoch=[stop_at(1)])
    shutil.rmtree(begun)  # not needed any more
    train(on, tmp_path / "on", sets=sets, resume=True)
    for name, value in weights(tmp_path / "on").items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(value, weights(whole)[name], rtol=0, atol=0)
    assert len(finished(tmp_path / "on")[0].start or "") == 64
    with pytest.raises(DataNotFoundError, match="neither a checkpoint nor a finished run at"):
        train(on, tmp_path / "again", sets=sets)


def test_a_start_that_cannot_be_is_refused(whole: Path, tmp_path: Path, sets: Sets) -> None:
    on = RECIPE.but({"start": str(whole)})
    with pytest.raises(ArgumentError, match="give one of the two"):
        train(on, tmp_path / "run", sets=sets, network=build(RECIPE.network))
    other = on.but({"network": "digits_cnn(classes=4)"})
    with pytest.raises(StoreError, match=f"{whole} does not fit"):
        train(other, tmp_path / "run", sets=sets)
    assert not (tmp_path / "run").exists()


def test_a_run_remembers_the_weights_that_it_started_from(tmp_path: Path, sets: Sets) -> None:
    short = RECIPE.but({"epochs": 2, "ema": 0.0})
    torch.manual_seed(1)
    begun = build(RECIPE.network)
    stop = KeyboardInterrupt()

    def interrupt(epoch: Epoch) -> None:
        raise stop

    with pytest.raises(KeyboardInterrupt):
        train(short, tmp_path, sets=sets, network=copy.deepcopy(begun), after_epoch=[interrupt],
              show_progress=False)  # fmt: skip
    with pytest.raises(DataError, match="started from other weights"):
        train(short, tmp_path, sets=sets, resume=True, show_progress=False)
    train(short, tmp_path, sets=sets, network=begun, resume=True, show_progress=False)
    assert len(json.loads((tmp_path / "card.json").read_text())["start"]) == 64


def test_a_run_without_its_checkpoint_begins_at_its_start_again(
    whole: Path, tmp_path: Path, sets: Sets
) -> None:
    """As the message of a damaged checkpoint says; weights that were kept are no checkpoint."""
    on = RECIPE.but({"start": str(whole), "lr": 1e-30, "epochs": 2, "ema": 0.0})
    with pytest.raises(StopError):
        train(on, tmp_path, sets=sets, keep_every=1, after_epoch=[stop_at(1)])
    (tmp_path / "last.ckpt").unlink()
    train(on, tmp_path, sets=sets, resume=True)
    for name, value in weights(tmp_path).items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(value, weights(whole)[name], rtol=0, atol=0)
