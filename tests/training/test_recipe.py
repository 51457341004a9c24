"""Recipes: declarations of plain values."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from offmap.errors import ArgumentError, UnknownNameError
from offmap.networks import build
from offmap.training import BUDGETS, RECIPES, Recipe, optim, recipe, settings
from offmap.training.sets import load, normalization
from offmap.training.task import Task


def lr_of(made: Recipe, steps: int, epochs: int) -> list[float]:
    """The learning rate at each step of a run."""
    weight = nn.Parameter(torch.zeros(1))
    optimizer = optim.optimizer(made, [weight])
    schedule = optim.schedule(made, optimizer, steps)
    found = []
    for _ in range(steps * epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


SMALL = Recipe(network="digits_cnn", data="embedded:digits", lr=1.0, epochs=10)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("budget", BUDGETS)
def test_every_recipe_is_json_and_back(name: str, budget: str) -> None:
    made = recipe(name, budget=budget)
    assert Recipe.of(json.loads(json.dumps(made.record()))) == made


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_fits_its_data_where_nothing_is_changed(name: str) -> None:
    made = recipe(name, budget="smoke")
    Task(made, build(made.network), load(made), normalization(made.normalization))


def test_the_two_recipes_of_study_a_differ_in_pixmix_alone() -> None:
    for budget in BUDGETS:
        plain, mixed = (recipe(name, budget=budget).record() for name in ("plain", "pixmix"))
        assert {k for k in plain if plain[k] != mixed[k]} == {"pixmix"}


def test_the_full_budget_is_the_published_one() -> None:
    made = recipe("plain", budget="full")
    assert (made.epochs, made.lr, made.momentum, made.nesterov) == (100, 0.1, 0.9, True)
    assert (made.schedule, made.weight_decay, made.batch_size) == ("cosine", 5e-4, 128)
    assert "dropout=0.3" in made.network


def test_changes_reach_into_options() -> None:
    made = recipe("pixmix", changes={"pixmix.k": 2, "epochs": 3})
    assert made.epochs == 3
    assert made.pixmix == recipe("pixmix").pixmix | {"k": 2}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epoch": 3}, "no 'epoch'; did you mean 'epochs'"),
        ({"epochs": "three"}, "epochs of a recipe must be int; seen 'three'"),
        ({"epochs": 2.5}, "must be int"),
        ({"epochs": True}, "must be int"),
        ({"epochs": 0}, "epochs of a recipe must be a number from 1 up; seen 0"),
        ({"lr": -1.0}, "lr of a recipe must be above 0; seen -1.0"),
        ({"lr": math.inf}, "lr of a recipe must be plain values"),
        ({"objective_options": {"label_smoothing": math.nan}}, "must be plain values"),
        ({"erasing": 2.0}, "a share from 0 to 1"),
        ({"crop": -1}, "from 0 up"),
        ({"momentum": 2.0}, "below 1"),
        ({"holdout": 2.0}, "between 0 and 1"),
        ({"outliers": "./strange"}, "cross_entropy makes no use of them"),
        ({"precision": "fp16"}, "fp32 or bf16"),
        ({"ema": 1.0}, "below 1"),
        ({"jitter": [0.1]}, "brightness"),
        ({"jitter": [0.1, 0.1, 0.1, 0.9]}, "hue from 0 to 0.5; seen"),
        ({"jitter": [-0.1, 0.1, 0.1, 0.1]}, "from 0 up"),
        ({"network.width": 2}, "has no options"),
    ],
)
def test_wrong_values_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        recipe("plain", changes=changes)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="plain, pixmix"):
        recipe("nonsense")
    with pytest.raises(UnknownNameError, match="smoke, cpu, full"):
        recipe("plain", budget="huge")
    with pytest.raises(ArgumentError, match="no complete recipe"):
        Recipe.of({"network": "resnet20"})


def test_pairs_are_json_or_text() -> None:
    assert settings(["jitter=[0.1, 0.2, 0.3, 0]", "validation=null", "data=a=b"]) == {
        "jitter": [0.1, 0.2, 0.3, 0],
        "validation": None,
        "data": "a=b",
    }
    with pytest.raises(ArgumentError, match="key=value"):
        settings(["epochs"])


def test_one_cycle_rises_over_its_warmup_and_falls_to_nearly_zero() -> None:
    found = lr_of(SMALL, 10, 10)
    assert max(found) == pytest.approx(1.0)
    assert abs(found.index(max(found)) - 29) <= 1
    assert found[-1] < 1e-3
    late = lr_of(SMALL.but({"schedule_options": {"warmup": 0.5}}), 10, 10)
    assert abs(late.index(max(late)) - 49) <= 1


def test_cosine_ends_at_zero() -> None:
    found = lr_of(SMALL.but({"schedule": "cosine"}), 10, 10)
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.5, abs=1e-6)
    assert found[-1] < 1e-3


def test_milestones_are_epochs() -> None:
    options = {"schedule": "milestones", "schedule_options": {"at": [2, 5], "gamma": 0.2}}
    found = lr_of(SMALL.but(options), 3, 6)
    assert found == pytest.approx([1.0] * 6 + [0.2] * 9 + [0.04] * 3)


def test_steps_divide_by_ten() -> None:
    found = lr_of(SMALL.but({"schedule": "steps", "schedule_options": {"every": 4}}), 3, 3)
    assert found == pytest.approx([1.0] * 4 + [0.1] * 4 + [0.01])


def test_constant_stays() -> None:
    assert set(lr_of(SMALL.but({"schedule": "constant"}), 3, 3)) == {1.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "linear"},
        {"optimizer": "lion"},
        {"schedule_options": {"warm": 1}},
        {"schedule": "steps", "schedule_options": {"every": 0}},
        {"schedule": "steps", "schedule_options": {"every": 2.5}},
        # As text, these epochs were never met, and the rate stayed as it was.
        {"schedule": "milestones", "schedule_options": {"at": "60,120"}},
        {"schedule": "milestones", "schedule_options": {"at": ["60"]}},
        {"schedule": "milestones", "schedule_options": {"at": [0.5]}},
        {"schedule": "milestones", "schedule_options": {"gamma": "0.2,"}},
        {"schedule": "milestones", "schedule_options": {"gamma": -1}},
        {"schedule_options": {"warmup": 1.0}},
        {"schedule_options": {"warmup": 0.05}},  # one step of the 20
    ],
)
def test_unknown_optimizers_and_schedules_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ArgumentError):
        lr_of(SMALL.but(changes), 2, 1)


def test_an_option_that_a_schedule_lacks_is_named() -> None:
    """The message named a private function, and none of the options."""
    with pytest.raises(ArgumentError, match="onecycle has no option 'warm': it has warmup"):
        lr_of(SMALL.but({"schedule_options": {"warm": 1}}), 2, 1)
    with pytest.raises(ArgumentError, match="constant has no option 'at': it has none"):
        lr_of(SMALL.but({"schedule": "constant", "schedule_options": {"at": 1}}), 2, 1)


def test_published_defaults_of_the_schedules() -> None:
    """60/120/160 times 0.2, and a tenth every 20,000 steps."""
    long = SMALL.but({"epochs": 200, "schedule": "milestones"})
    found = lr_of(long, 1, 200)
    assert [found[i] for i in (59, 60, 120, 160)] == pytest.approx([1, 0.2, 0.04, 0.008])
    steps = lr_of(SMALL.but({"schedule": "steps"}), 20_001, 1)
    assert steps[-2:] == pytest.approx([1.0, 0.1])


def test_sgd_without_momentum_is_plain() -> None:
    made = optim.optimizer(SMALL.but({"momentum": 0.0}), [nn.Parameter(torch.zeros(1))])
    assert made.defaults["nesterov"] is False


def test_options_that_a_schedule_cannot_have_are_named() -> None:
    made = SMALL.but({"schedule": "onecycle", "schedule_options": {"warmup": 2.0}})
    with pytest.raises(ArgumentError, match="schedule_options of onecycle"):
        lr_of(made, 2, 2)


def test_what_a_recipe_is_given_becomes_what_json_keeps() -> None:
    """Else a run that was begun with a tuple was refused as one of another recipe."""
    options: dict[str, object] = {"at": (2, 5)}
    made = Recipe(
        network="digits_cnn",
        data="embedded:digits",
        jitter=(0.1, 0.1, 0, 0),  # type: ignore[arg-type]
        schedule="milestones",
        schedule_options=options,
    )
    assert Recipe.of(json.loads(json.dumps(made.record()))) == made
    options["at"] = ()
    assert made.schedule_options == {"at": [2, 5]}
    for wrong, said in ({"pixmix": {"k": {1}}}, "plain values"), ({"epochs": "3"}, "must be int"):
        with pytest.raises(ArgumentError, match=said):
            Recipe(network="digits_cnn", data="embedded:digits", **wrong)
