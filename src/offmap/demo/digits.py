"""Digits of 8x8 pixels, inside the wheel of scikit-learn: 0 to 7 are known.

Small enough for a first example, and for tests. The network's weights are in this package;
:func:`train` made them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from offmap import data
from offmap.demo.parts import FAR, Parts, card_of, pictures, train_network, with_weights
from offmap.forward import Normalization
from offmap.networks import DigitsCNN
from offmap.networks.card import Card

KNOWN = tuple(range(8))
NORMALIZATION = Normalization((0.305,), (0.376,))
SEED = 0
COMMAND = """python -c "from offmap import demo; demo.train(demo.digits_data(), 'digits')\""""


class Digits(Parts):
    """The known digits in three disjoint parts, and the OOD sets by group and name."""


def digits_data() -> Digits:
    """Digits 0 to 7 (60 % training, 15 % calibration, 25 % test); 8, 9 and others as OOD."""
    digits = data.embedded("digits")
    train, holdout = digits.only(KNOWN).split(0.6, seed=SEED)
    calibration, test = holdout.split(0.375, seed=SEED)
    far = {name: pictures(name) for name in FAR}
    far["noise"] = data.noise("gaussian", 300, digits.shape, seed=SEED)
    near = {"eights": digits.only([8]), "nines": digits.only([9])}
    return Digits(train, calibration, test, {"near": near, "far": far})


def train(sets: Parts, out: str | Path, *, changes: Mapping[str, Any] | None = None) -> nn.Module:
    """Train the network of the digits by the recipe ``digits``, in a folder of its own.

    Raises:
        MissingExtraError: lightning or kornia is not installed.
    """
    recipe = {"network": "digits_cnn"} | dict(changes or {})  # of eight digits
    return train_network(sets.train, sets.test, out, recipe, COMMAND)


def shipped() -> DigitsCNN:
    """The network with the weights in the package."""
    return with_weights(DigitsCNN(len(KNOWN)), "weights.safetensors")


def card() -> Card:
    """The card of the shipped weights."""
    return card_of("weights.json")
