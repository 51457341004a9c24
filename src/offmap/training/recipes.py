"""The recipes of the studies, with what each budget changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offmap.errors import UnknownNameError
from offmap.training.recipe import Recipe

BUDGETS = ("smoke", "cpu", "full")

# Embedded images in colour with labels: enough to test that everything runs.
_SMOKE = {
    "network": "wrn10_1(classes=9)",
    "data": "embedded:photographs",
    "channels": 3,
    "validation": None,
    "epochs": 2,
    "lr": 0.2,
    "precision": "fp32",
}
_CIFAR10 = Recipe(
    network="wrn40_2",
    data="cifar10:train",
    validation="cifar10:test",
    normalization="cifar10",
    crop=4,
    flip=True,
)
# As published: 100 epochs, cosine, dropout 0.3.
_FULL = {"network": "wrn40_2(dropout=0.3)", "epochs": 100, "schedule": "cosine"}
_PIXMIX = {"mixing_set": "fractals:2000", "k": 4, "beta": 3.0, "severity": 3}

_DIGITS = Recipe(
    network="digits_cnn(classes=10)",
    data="embedded:digits",
    normalization="0.305/0.376",
    crop=1,
    optimizer="adam",
    lr=2e-3,
    weight_decay=1e-4,
    schedule="cosine",
    epochs=60,
    batch_size=32,
    precision="fp32",
)
# In the place of MNIST and CIFAR-10: digits of 8x8 pixels inside a wheel.
_SMALL = {
    "data": "embedded:digits",
    "validation": None,
    "lr": 2e-3,
    "batch_size": 32,
    "precision": "fp32",
}
# As in the source study: each image by its own mean and deviation, and no weight decay.
_ENSEMBLE = _CIFAR10.but(
    {
        "network": "ensemble(network='vgg16(width=0.25)', members=5)",
        "normalization": "per_image",
        "optimizer": "adam",
        "lr": 1e-3,
        "weight_decay": 0.0,
        "schedule": "cosine",
        "epochs": 5,
    }
)
_ENSEMBLE_SMOKE = _SMALL | {
    "network": "ensemble(network='digits_cnn(classes=10)', members=2)",
    "crop": 1,
    "flip": False,
    "epochs": 3,
}
# 1e-3 divided by ten every 20,000 steps, of 78,000.
_ENSEMBLE_FULL = {
    "network": "ensemble(network='vgg16', members=10)",
    "schedule": "steps",
    "epochs": 200,
}
_DISAGREE = {"objective": "disagreement", "contrast": "shuffle", "contrast_grid": 8}

_MNIST = Recipe(
    network="mnist_cnn",
    data="mnist:train",
    validation="mnist:test",
    normalization="mnist",
    optimizer="adam",
    lr=1e-3,
    weight_decay=0.0,
    schedule="cosine",
    epochs=5,
)
_ANCHORS = {"objective": "class_anchors", "network": "anchor_head(network='mnist_cnn')"}
_MNIST_SMOKE = _SMALL | {
    "network": "digits_cnn(classes=10)",
    "normalization": _DIGITS.normalization,
    "epochs": 5,
}
_ANCHORS_SMOKE = _MNIST_SMOKE | {"network": "anchor_head(network='digits_cnn(classes=10)')"}
# A small network for six of the classes of CIFAR-10.
_RESNET20 = _CIFAR10.but({"network": "resnet20", "lr": 0.05, "schedule": "cosine", "epochs": 10})

# Dropout, and the augmentation of study D; three learning rates as is usual for so long.
_COLLAPSE = Recipe(
    network="resnet18(dropout=0.5, classes=100)",
    data="cifar100:train",
    validation="cifar100:test",
    normalization="cifar100",
    crop=4,
    flip=True,
    rotation=15,
    jitter=[0.2, 0.2, 0.2, 0.1],
    erasing=0.25,
    lr=0.1,
    epochs=20,
)
_COLLAPSE_FULL = {"lr": 0.05, "momentum": 0.95, "schedule": "milestones", "epochs": 200}
# Without augmentation a network sooner classifies all of its training images correctly, and only
# then does it collapse: so there is none where time is short.
_COLLAPSE_CIFAR10 = _COLLAPSE.but(
    {"network": "resnet18(width=0.5, dropout=0.5)", "data": "cifar10:train"}
    | {"validation": "cifar10:test", "normalization": "cifar10"}
)
_BARE = {"crop": 0, "flip": False, "rotation": 0, "jitter": [], "erasing": 0.0}
_COLLAPSE_SHORT = {**_BARE, "schedule": "cosine", "lr": 0.03, "epochs": 20}
# A strong decay of the weights, with batch normalisation, collapses even the smallest in seconds.
_COLLAPSE_DIGITS = _COLLAPSE.but(
    {**_SMALL, **_BARE, "network": "wrn10_1(classes=10)", "channels": 3, "schedule": "cosine"}
    | {"normalization": _DIGITS.normalization, "lr": 0.1, "weight_decay": 5e-3}
    | {"batch_size": 64, "epochs": 30, "holdout": 0.4}
)

Budgets = Mapping[str, Mapping[str, Any]]
RECIPES: dict[str, tuple[Recipe, Budgets]] = {
    "plain": (_CIFAR10, {"smoke": _SMOKE, "cpu": {}, "full": _FULL}),
    "pixmix": (
        _CIFAR10.but({"pixmix": _PIXMIX}),
        {"smoke": _SMOKE | {"pixmix.mixing_set": "fractals:64"}, "cpu": {}, "full": _FULL},
    ),
    "mnist": (_MNIST, {"smoke": _MNIST_SMOKE, "cpu": {}, "full": {"epochs": 20}}),
    "anchors": (
        _MNIST.but(_ANCHORS),
        {"smoke": _ANCHORS_SMOKE, "cpu": {}, "full": {"epochs": 20}},
    ),
    "resnet20": (_RESNET20, {"smoke": _SMOKE, "cpu": {}, "full": {"epochs": 100}}),
    "anchors_cifar10": (
        _RESNET20.but({"objective": "class_anchors", "network": "anchor_head(network='resnet20')"}),
        {
            "smoke": _SMOKE | {"network": "anchor_head(network='wrn10_1(classes=9)')"},
            "cpu": {},
            "full": {"epochs": 100},
        },
    ),
    "ensemble": (
        _ENSEMBLE,
        {"smoke": _ENSEMBLE_SMOKE, "cpu": {}, "full": _ENSEMBLE_FULL},
    ),
    "disagreement": (
        _ENSEMBLE.but({**_DISAGREE, "objective_options": {"alpha": 1.0}}),
        {
            "smoke": {**_ENSEMBLE_SMOKE, "contrast_grid": 4},
            "cpu": {},
            "full": {
                **_ENSEMBLE_FULL,
                "objective_options": {"alpha": 2.0, "ordinary_alpha": 0.8},
                "ordinary_every": 7,
            },
        },
    ),
    "collapse_cifar100": (
        _COLLAPSE,
        {"smoke": _COLLAPSE_DIGITS.record(), "cpu": {}, "full": _COLLAPSE_FULL},
    ),
    "collapse_cifar10": (
        _COLLAPSE_CIFAR10,
        {"smoke": _COLLAPSE_DIGITS.record(), "cpu": _COLLAPSE_SHORT, "full": _COLLAPSE_FULL},
    ),
    "collapse_digits": (_COLLAPSE_DIGITS, {"smoke": {}, "cpu": {}, "full": {}}),
    "digits": (_DIGITS, {"smoke": {"epochs": 3}, "cpu": {}, "full": {}}),
}


def recipe(name: str, *, budget: str = "cpu", changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe of the studies under a budget, with further changes.

    Args:
        name: one of ``RECIPES``.
        budget: ``smoke`` runs in seconds on embedded data, ``cpu`` in minutes to hours on two
            cores, ``full`` is the published one.
        changes: values by field, see :meth:`Recipe.but`.

    Raises:
        UnknownNameError: no such recipe, budget or field.
    """
    if name not in RECIPES:
        raise UnknownNameError(f"no recipe {name!r}: there are {', '.join(RECIPES)}")
    base, budgets = RECIPES[name]
    if budget not in budgets:
        raise UnknownNameError(f"{name} has no budget {budget!r}: it has {', '.join(budgets)}")
    return base.but(budgets[budget]).but(changes or {})
