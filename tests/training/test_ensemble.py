"""Training of ensembles: what each member sees, and runs that survive interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from offmap.data import ImageSet, embedded
from offmap.errors import ArgumentError, OffmapError, ShapeError
from offmap.networks import DigitsCNN, Ensemble, build, load_weights
from offmap.training import Batch, Epoch, Recipe, Sets, recipe, train
from offmap.training._seeds import generator, seeded
from offmap.training.batches import Batches

CPU = torch.device("cpu")
TWO = "ensemble(network='digits_cnn(classes=10)', members=2)"
# Of the eight steps of an epoch some are ordinary, and epochs begin at other places among them.
RECIPE = recipe(
    "disagreement",
    budget="smoke",
    changes={"epochs": 3, "ordinary_every": 3, "objective_options.ordinary_alpha": 0.5},
)
SHUFFLE = {"objective": "disagreement", "contrast": "shuffle", "contrast_grid": 4}


@pytest.fixture(scope="module")
def sets() -> Sets:
    validation, rest = embedded("digits").split(0.1)
    return Sets(rest.take(256), validation)


def numbered(n: int = 50) -> Sets:
    """Grey images of one colour each, and outliers whose colours are others."""
    colours = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 8, 8).contiguous()
    known = ImageSet("numbers", colours, torch.arange(n) % 10)
    return Sets(known, known, ImageSet("others", colours + 100))


def batches(members: int, **changes: Any) -> Batches:
    made = Recipe(network=TWO, data="numbers", batch_size=10).but(changes)
    return Batches(made, numbered(), Tensor.float, CPU, members=members)


def one(made: Batches, epoch: int = 0, step: int = 0, number: int = 0) -> Batch:
    with seeded(CPU, 0, "step", number, 0):
        return made(epoch, step, number)


def colours(images: Tensor | None) -> list[int]:
    assert images is not None
    return images[:, 0, 0, 0].int().tolist()


def test_each_member_sees_other_images_and_all_of_them_once_an_epoch() -> None:
    made = batches(3)
    for epoch in (0, 1):
        steps = [one(made, epoch, step, 5 * epoch + step) for step in range(5)]
        assert all(b.labels.tolist() == [c % 10 for c in colours(b.images)] for b in steps)
        seen = [[colours(b.images.chunk(3)[m]) for b in steps] for m in range(3)]
        assert all(sorted(chain(*rows)) == list(range(50)) for rows in seen)
        assert seen[0][0] != seen[1][0] != seen[2][0] != seen[0][0]
    assert steps[0].contrast is None


def test_what_a_member_sees_does_not_depend_on_how_many_there_are() -> None:
    def noisy(images: Tensor) -> Tensor:
        return images.float() + torch.rand(images.shape)

    made = [batches(members) for members in (2, 4)]
    for each in made:
        each.augment = noisy
    two, four = (one(each, 1, 2, 7).images for each in made)
    assert torch.equal(two, four[:20])
    assert not torch.equal(four[:10] % 1, four[10:20] % 1)  # augmentation is each member's own too


def test_a_plain_network_sees_the_seeded_order_of_the_epoch() -> None:
    order = torch.randperm(50, generator=generator(CPU, 0, "order", 3)).tolist()
    assert colours(one(batches(0), 3, 2).images) == order[20:30]


def test_every_kind_of_contrast_images() -> None:
    options = {"objective": "disagreement", "contrast_batch": 30}
    shuffle = one(batches(2, contrast="shuffle", **options)).contrast
    assert len(set(colours(shuffle))) > 10
    assert max(colours(shuffle)) < 50
    noise = one(batches(2, contrast="noise", **options)).contrast
    assert noise is not None
    assert noise.shape == (30, 1, 8, 8)
    assert abs(noise.mean()) < 5 / 1920**0.5
    assert abs(noise.std() - 1) < 5 / (2 * 1920) ** 0.5
    outliers = one(batches(2, contrast="outliers", outliers="others", **options))
    assert min(colours(outliers.contrast)) >= 100
    assert outliers.outliers is None


def test_shuffled_images_are_training_images_cut_into_patches() -> None:
    made = batches(2, **SHUFFLE)
    ramp = torch.arange(64.0).view(1, 1, 8, 8)
    made.augment = lambda images: ramp + 0 * images
    found = one(made).contrast
    assert found is not None
    assert torch.equal(found.flatten(1).sort(1).values, ramp.flatten(1).expand(10, -1))
    assert all(not torch.equal(image, ramp[0]) for image in found)


def test_the_last_of_each_seven_steps_is_ordinary() -> None:
    made = batches(2, ordinary_every=7, contrast="noise", objective="disagreement")
    seen = [one(made, 0, number % 5, number) for number in range(14)]
    assert [i for i, b in enumerate(seen) if b.ordinary] == [6, 13]
    assert all(max(colours(seen[i].contrast)) > 9 for i in (6, 13))  # no noise, but images


def test_no_contrast_images_are_drawn_where_they_have_no_weight() -> None:
    options = {"alpha": 0, "ordinary_alpha": 1.0}
    made = batches(2, ordinary_every=2, objective_options=options, **SHUFFLE)
    seen = [one(made, 0, number, number) for number in range(4)]
    assert [b.contrast is None for b in seen] == [True, False, True, False]
    alone = batches(2, ordinary_every=2, objective="disagreement", objective_options={"alpha": 0})
    assert not one(alone, 0, 1, 1).ordinary


def weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / "weights.safetensors")


def same(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class StopError(Exception):
    """Stands for whatever stops a run."""


def stop_at(number: int) -> Callable[[Epoch], None]:
    def stop(epoch: Epoch) -> None:
        if epoch.number == number:
            raise StopError

    return stop


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sets: Sets) -> Path:
    out = tmp_path_factory.mktemp("run") / "whole"
    train(RECIPE, out, sets=sets)
    return out


def test_it_learns_and_its_card_builds_it_again(whole: Path, sets: Sets) -> None:
    card = json.loads((whole / "card.json").read_text())
    assert card["normalization"] == {"per_image": True}
    network = load_weights(build(card["network"]), whole / "weights.safetensors").eval()
    assert isinstance(network, Ensemble)
    pixels = sets.validation.images.double()
    mean = pixels.mean((1, 2, 3), keepdim=True)
    images = ((pixels - mean) / pixels.std((1, 2, 3), correction=0, keepdim=True)).float()
    with torch.no_grad():
        p = torch.stack([member(images).softmax(1) for member in network.members]).mean(0)
    right = (p.argmax(1) == sets.validation.labels).double().mean()
    assert float(right) == pytest.approx(card["accuracy"], abs=2 / len(pixels))
    assert card["accuracy"] > 0.4


def test_a_resumed_run_ends_in_the_same_bits(whole: Path, tmp_path: Path, sets: Sets) -> None:
    with pytest.raises(StopError):
        train(RECIPE, tmp_path, sets=sets, after_epoch=[stop_at(1)])
    train(RECIPE, tmp_path, sets=sets, resume=True)
    assert same(tmp_path, whole)


def test_without_weight_a_run_is_that_of_the_plain_ensemble(tmp_path: Path, sets: Sets) -> None:
    shared = {"epochs": 1, "ordinary_every": 0}
    options: dict[str, Any] = {"objective_options": {"alpha": 0}}
    train(RECIPE.but(shared | options), tmp_path / "weightless", sets=sets)
    train(recipe("ensemble", budget="smoke", changes={"epochs": 1}), tmp_path / "plain", sets=sets)
    train(RECIPE.but(shared), tmp_path / "disagreeing", sets=sets)
    assert same(tmp_path / "weightless", tmp_path / "plain")
    assert not same(tmp_path / "disagreeing", tmp_path / "plain")


def test_a_run_goes_on_whose_recipe_was_written_before_a_field_came(
    tmp_path: Path, sets: Sets
) -> None:
    made = recipe("ensemble", budget="smoke", changes={"epochs": 2})
    with pytest.raises(StopError):
        train(made, tmp_path, sets=sets, after_epoch=[stop_at(1)])
    record = json.loads((tmp_path / "run.json").read_text())
    del record["recipe"]["contrast_grid"], record["recipe"]["ordinary_every"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    train(made, tmp_path, sets=sets, resume=True)
    assert (tmp_path / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "network", "error", "said"),
    [
        (
            {},
            lambda: Ensemble([DigitsCNN(10), DigitsCNN(12)]),
            ShapeError,
            "must have the same classes; seen members of 10, 12 outputs",
        ),
        (SHUFFLE, lambda: DigitsCNN(10), ArgumentError, "two members or more.*seen DigitsCNN"),
        (SHUFFLE, lambda: Ensemble([DigitsCNN(10)]), ArgumentError, "two members or more"),
        (
            SHUFFLE | {"contrast_grid": 3},
            lambda: Ensemble([DigitsCNN(10), DigitsCNN(10)]),
            ShapeError,
            "images of 8x8 cannot be cut into 3x3",
        ),
        (
            {"objective": "outlier_exposure", "outliers": "embedded:text"},
            lambda: Ensemble([DigitsCNN(10), DigitsCNN(10)]),
            ArgumentError,
            "trains one network",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    changes: dict[str, Any],
    network: Callable[[], nn.Module],
    error: type[OffmapError],
    said: str,
    tmp_path: Path,
    sets: Sets,
) -> None:
    made = Recipe(network=TWO, data="embedded:digits").but(changes)
    with pytest.raises(error, match=said):
        train(made, tmp_path / "run", sets=sets, network=network())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"contrast": "mirror"}, "contrast must be shuffle, noise, outliers or none"),
        ({"contrast": "outliers"}, "needs outliers: name a data set"),
        ({"contrast": None}, "disagreement needs contrast images"),
        ({"objective": "cross_entropy"}, "contrast is set, and cross_entropy makes no use"),
        ({"contrast_grid": 1}, "a number from 2 up; seen 1"),
        ({"contrast_batch": 0}, "a number from 1 up, or none; seen 0"),
        ({"ordinary_every": -1}, "ordinary_every of a recipe must be from 0 up; seen -1"),
        ({"outliers": "./strange"}, "outliers are named, and disagreement makes no use of them"),
    ],
)
def test_wrong_values_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        recipe("disagreement", changes=changes)


def test_the_full_budget_is_that_of_the_source() -> None:
    plain, made = (recipe(name, budget="full") for name in ("ensemble", "disagreement"))
    assert made.network == plain.network == "ensemble(network='vgg16', members=10)"
    assert (made.epochs, made.batch_size, made.optimizer, made.lr) == (200, 128, "adam", 1e-3)
    assert (made.schedule, made.schedule_options, made.contrast_grid) == ("steps", {}, 8)
    assert made.objective_options == {"alpha": 2.0, "ordinary_alpha": 0.8}
    assert made.ordinary_every == 7


def test_the_two_recipes_of_study_c_differ_in_the_objective_alone() -> None:
    for budget in ("smoke", "cpu", "full"):
        plain, made = (recipe(n, budget=budget).record() for n in ("ensemble", "disagreement"))
        differing = {k for k in plain if plain[k] != made[k]}
        assert differing - {"contrast_grid", "ordinary_every"} == {
            *("objective", "objective_options", "contrast")
        }
