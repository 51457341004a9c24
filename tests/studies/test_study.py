"""What every study does around its own part."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from offmap.cli import main
from offmap.errors import ArgumentError, DataNotFoundError, UnknownNameError
from offmap.studies import anchors, collapse, disagreement, pixmix
from offmap.studies._anchors_data import PROTOCOLS, embedded_data, protocol_of
from offmap.studies._study import Setup, first_local, id_of
from offmap.training import settings
from offmap.training.trained import open_trained


def test_the_seed_of_a_study_is_that_of_its_recipes() -> None:
    setup = Setup("pixmix", "smoke", 3, {"epochs": 2, "network": "resnet20"})
    of = setup.recipe("plain")
    assert (of.seed, of.epochs, of.network) == (3, 2, "resnet20")
    words = shlex.split(setup.command)
    assert words[-4:] == ["3", "--set", "epochs=2", 'network="resnet20"']
    assert settings(words[-2:]) == setup.changes


@pytest.mark.parametrize(
    "line",
    [
        "pixmix --weights plain=zoo:a --only plain --limit 40 --budget cpu --seed 2",
        "pixmix --budget cpu --seed 0 --set epochs=4 'network=\"resnet20\"'",
        "anchors --id cifar10 --weights plain=a anchors=b --splits 0 --budget full --seed 0",
        "disagreement --weights start=a,b 'single-x=my run' --budget full --seed 0",
        "collapse --id cifar10 --every 5 --precision bf16 --budget cpu --seed 0",
        "collapse --id digits --weights last=a --limit 9 --budget smoke --seed 0",
    ],
)
def test_the_command_of_a_study_gives_the_same_run(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lacked all options but the ID set, the start, the budget, the seed and the changes."""
    commands = []

    def stop(setup: Setup) -> None:
        commands.append(setup.command)
        raise ArgumentError("enough")

    monkeypatch.setattr(Setup, "__post_init__", stop)
    with pytest.raises(SystemExit):
        main(["study", *shlex.split(line)])
    assert commands == [f"offmap study {line}"]


def test_the_smoke_budget_of_every_study_is_for_digits() -> None:
    """Study B refused them by their name, which study D takes."""
    for ids in (tuple(PROTOCOLS), collapse.IDS):
        assert [id_of(id, "smoke", ids) for id in (None, "digits")] == ["digits"] * 2
        assert id_of(None, "cpu", ids) == ids[0]
        with pytest.raises(ArgumentError, match="digits, which are embedded; seen cifar10"):
            id_of("cifar10", "smoke", ids)
        with pytest.raises(UnknownNameError, match=f"no ID set 'x': there are {ids[0]}, "):
            id_of("x", "cpu", ids)
    assert protocol_of("digits", "smoke") is protocol_of(None, "smoke")


def test_weights_that_are_missing_are_told_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain network was trained first, for hours, and then there was no file of the other."""
    monkeypatch.setattr(Setup, "train", lambda *_, **__: pytest.fail("it trains"))
    with pytest.raises(DataNotFoundError, match="neither a checkpoint nor a finished run at abs"):
        pixmix.run(tmp_path, budget="smoke", weights={"pixmix": "absent.pth.tar"})


@pytest.mark.parametrize("study", [anchors, disagreement, pixmix])
@pytest.mark.parametrize("change", ["seed", "limit", "holdout", "data"])
def test_changes_without_effect_are_refused(study: object, change: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=f"{change} of the recipe cannot be changed here"):
        study.run(tmp_path, budget="smoke", changes={change: 5})  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("study", "weights"),
    [
        (pixmix, {"plain": "zoo:wrn40-2-cifar10", "pixmix": "zoo:wrn40-2-cifar10"}),
        (anchors, {"plain": "zoo:mnist-plain", "anchors": "zoo:mnist-anchors"}),
        (disagreement, dict.fromkeys(("plain", "disagreement"), "zoo:vgg16x5-disagreement")),
    ],
)
def test_changes_are_refused_where_all_networks_are_given(
    study: Any, weights: dict[str, str], tmp_path: Path
) -> None:
    splits = {"splits": 0} if study is anchors else {}
    with pytest.raises(ArgumentError, match="epochs of the recipe has no effect here"):
        study.run(tmp_path, weights=weights, changes={"epochs": 3}, **splits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["plain", "disagreement"])
def test_one_network_is_no_ensemble(name: str, tmp_path: Path) -> None:
    """That ended in a KeyError, after the evaluation."""
    given = {name: "zoo:mnist-plain", "single": "zoo:mnist-plain"}
    with pytest.raises(ArgumentError, match=f"{name} is one MnistCNN: give an ensemble"):
        disagreement.run(tmp_path, budget="smoke", weights=given)
    assert not list(tmp_path.iterdir())


def test_networks_that_a_study_lacks_are_named(tmp_path: Path) -> None:
    """As Python writes a set, in whatever order."""
    with pytest.raises(UnknownNameError, match=r"are plain, pixmix; seen 'a', 'b'$"):
        pixmix.run(tmp_path, weights={"b": "zoo:x", "a": "zoo:x"})


def test_a_network_without_anchors_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="MnistCNN, whose logits are no distances"):
        anchors.run(tmp_path, weights={"anchors": "zoo:mnist-plain"})
    assert not list(tmp_path.iterdir())


def test_weights_of_the_other_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="only plain is evaluated: leave pixmix out"):
        pixmix.run(tmp_path, only="plain", weights={"pixmix": "zoo:wrn40-2-cifar10"})


def test_study_d_reads_what_its_recipe_names(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="seed of the recipe cannot be changed here"):
        collapse.run(tmp_path, budget="smoke", changes={"limit": 50, "seed": 1})
    with pytest.raises(ArgumentError, match="every must be a whole number of at least 1"):
        collapse.run(tmp_path, budget="smoke", every=0)


def test_networks_that_may_have_seen_the_calibration_images_are_noted() -> None:
    """Those of the zoo were trained on what seed 0 left of MNIST, and not on digits."""
    checkpoint = anchors.checkpoint(PROTOCOLS["mnist"], "plain")
    given = {"plain": open_trained("zoo:mnist-plain", checkpoint)}
    with pytest.warns(UserWarning, match="plain was trained on other images"):
        notes = anchors.calibration_notes(given, embedded_data())
    assert len(notes) == 1


def test_what_is_not_at_hand_is_asked_for_by_its_first_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OFFMAP_DATA", str(tmp_path))
    assert first_local("svhn", "svhn370") == "svhn"
    (tmp_path / "svhn370").mkdir()
    (tmp_path / "svhn370" / "test.parquet").write_bytes(b"")
    assert first_local("svhn", "svhn370") == "svhn370"
