"""What ``offmap demo`` works on: ten letters are known, drawn at 28x28 pixels at run time.

Near-OOD are the other letters and the digits, of the same fonts. Far-OOD are capitals and letters
of other scripts, of which none looks like a known letter, pictures, and noise. Training,
calibration and test images are of the same fonts, and drawn under seeds of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from offmap import data
from offmap.data import ImageSet
from offmap.demo.glyphs import COMPUTER_MODERN, DEJAVU, SIDE, STIX, drawn
from offmap.demo.parts import FAR28, Parts, card_of, pictures, train_network, with_weights
from offmap.forward import Normalization
from offmap.networks import LettersCNN
from offmap.networks.card import Card

KNOWN = tuple("ABCDEFGHJK")
NORMALIZATION = Normalization((0.21,), (0.21,))
COMMAND = "offmap demo --retrain"
LATIN = (*DEJAVU, *STIX, *COMPUTER_MODERN)
# Letters and fonts by group and set. Of Greek and Cyrillic only what no Latin letter looks like.
OTHERS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "near": {"letters": ("LMNOPQRSTUVWXYZ", LATIN), "digits": ("0123456789", LATIN)},
    "far": {
        "greek": ("ΓΔΘΛΞΠΣΦΨΩ", (*DEJAVU, *STIX)),
        "cyrillic": ("БГДЖЗИЛПУФЦЧШЩЪЫЬЭЮЯ", (*DEJAVU, *STIX)),
        "georgian": ("".join(map(chr, range(0x10D0, 0x10F1))), DEJAVU),
    },
}
# Training watches the letters for validation, by which its epochs were chosen.
_SEEDS = {"train": 1, "calibration": 2, "validation": 3, "test": 4}
_OTHER_SEED = 10  # of the first OOD set; those that follow count on


def letters_data() -> Parts:
    """3,000 training, 1,000 calibration and 1,500 test images, and 100 to 400 of each OOD set."""
    seeds = iter(range(_OTHER_SEED, _OTHER_SEED + 10))
    ood = {
        group: {
            name: drawn(f"drawn:{name}", letters, fonts, 400, seed=next(seeds))
            for name, (letters, fonts) in sets.items()
        }
        for group, sets in OTHERS.items()
    }
    ood["far"] |= {name: pictures(name, size=SIDE) for name in FAR28}
    ood["far"]["noise"] = data.noise("gaussian", 300, (1, SIDE, SIDE), seed=next(seeds))
    return Parts(known("train", 3000), known("calibration", 1000), known("test", 1500), ood)


def known(part: str, count: int) -> ImageSet:
    """Known letters of a part: train, calibration, validation or test."""
    name = f"drawn:{''.join(KNOWN)}[{part}]"
    return drawn(name, "".join(KNOWN), LATIN, count, seed=_SEEDS[part], classes=KNOWN)


def train(sets: Parts, out: str | Path, *, changes: Mapping[str, Any] | None = None) -> nn.Module:
    """Train the network of the letters, in a folder of its own: about a minute on a core.

    Raises:
        MissingExtraError: lightning or kornia is not installed.
    """
    validation = known("validation", 1500)
    return train_network(sets.train, validation, out, _RECIPE | dict(changes or {}), COMMAND)


# What differs from the digits. The changes to the glyphs are augmentation enough.
_RECIPE = {
    "network": f"letters_cnn(classes={len(KNOWN)})",
    "data": f"drawn:{''.join(KNOWN)}[train]",
    "normalization": "0.21/0.21",
    "crop": 0,
    "epochs": 20,
    "batch_size": 64,
}


def shipped() -> LettersCNN:
    """The network with the weights in the package."""
    return with_weights(LettersCNN(len(KNOWN)), "letters.safetensors")


def card() -> Card:
    """The card of the shipped weights."""
    return card_of("letters.json")
