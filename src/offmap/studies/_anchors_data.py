"""The known and the unknown classes of study B."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb

import torch

from offmap import data
from offmap.errors import ArgumentError
from offmap.studies._study import Data, first_local, id_of

HELD_OUT, UNKNOWN = 5000, 500
OTHERS = "others"
_KNOWN = 6  # classes of a split


@dataclass(frozen=True)
class Protocol:
    """How the study goes on one ID set.

    Args:
        load: the data with all classes known, for a seed.
        recipes: of the plain network, and of the one under anchors.
        network: the plain one.
        always: classes that are known in every split.
        drawn: classes from which the others of the six are drawn.
        ten: whether all ten classes are known in the main part, and six in the splits alone.
    """

    load: Callable[[int], Data]
    recipes: tuple[str, str]
    network: str
    always: tuple[int, ...] = ()
    drawn: tuple[int, ...] = tuple(range(10))
    ten: bool = True

    def split(self, seed: int) -> tuple[list[int], list[int]]:
        """Six known classes, and the others."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.drawn), generator=generator, device="cpu").tolist()
        classes, free = [self.drawn[i] for i in order], _KNOWN - len(self.always)
        return sorted([*self.always, *classes[:free]]), sorted(classes[free:])

    def seeds(self, count: int) -> list[int]:
        """The first ``count`` seeds whose splits all differ.

        Raises:
            ArgumentError: there are not so many.
        """
        if count > (total := comb(len(self.drawn), _KNOWN - len(self.always))):
            raise ArgumentError(f"these classes have {total} splits, and {count} were asked for")
        seeds: dict[tuple[int, ...], int] = {}
        seed = 0
        while len(seeds) < count:
            seeds.setdefault(tuple(self.split(seed)[0]), seed)
            seed += 1
        return list(seeds.values())


def protocol_of(id: str | None, budget: str) -> Protocol:
    """The protocol of an ID set; for the smoke budget that of the embedded digits.

    Raises:
        UnknownNameError: no such ID set.
        ArgumentError: another ID set than digits for the smoke budget.
    """
    name = id_of(id, budget, list(PROTOCOLS))
    return _DIGITS if name == "digits" else PROTOCOLS[name]


def open_set_data(sets: Data, known: list[int], unknown: list[int]) -> Data:
    """Data in which some classes are known, and the test images of others are unknown."""
    train, calibration, test = (
        part.only(known) for part in (sets.train, sets.calibration, sets.test)
    )
    return Data(train, calibration, test, {"unknown": {OTHERS: sets.test.only(unknown)}})


def mnist_data(seed: int = 0) -> Data:
    """MNIST, 5,000 of its training images held out, and unknown images of the same shape."""
    mnist = data.load("mnist:train")
    calibration, train = mnist.split(HELD_OUT / len(mnist), seed=seed)
    test = data.load("mnist:test")
    cifar10 = data.load_like("cifar10:test", test, limit=UNKNOWN, seed=seed)
    fashion = first_local("fashion_mnist", "fashion_mnist_partial")
    names = ("notmnist", "emnist_letters", "omniglot", fashion)
    far = {"cifar10": cifar10} | {name: data.load_like(name, test) for name in names}
    far["noise"] = data.noise("gaussian", 2000, test.shape, seed=seed)
    # Digits by other hands: a network may classify them correctly, so refusing them is no success.
    shifted = {"usps": data.load_like("usps", test)}
    return Data(train, calibration, test, {"unknown": far, "shifted": shifted})


def cifar10_data(seed: int = 0) -> Data:
    """CIFAR-10, 5,000 of its training images held out, and images of other sets."""
    cifar10 = data.load("cifar10:train")
    calibration, train = cifar10.split(HELD_OUT / len(cifar10), seed=seed)
    test = data.load("cifar10:test")
    names = ("cifar100", first_local("svhn", "svhn370"), "textures")
    ood = {name: data.load_like(name, test) for name in names}
    return Data(train, calibration, test, {"other": ood})


def embedded_data(seed: int = 0) -> Data:
    """Small digits in the place of MNIST, and embedded sets as unknown images."""
    train, holdout = data.embedded("digits").split(0.6, seed=seed)
    calibration, test = holdout.split(0.375, seed=seed)
    size = test.shape[1:]
    far = {name: data.embedded(name, size=size, limit=200, seed=seed) for name in ("faces", "text")}
    far["noise"] = data.noise("gaussian", 200, test.shape, seed=seed)
    return Data(train, calibration, test, {"unknown": far})


_DIGITS = Protocol(embedded_data, ("mnist", "anchors"), "digits_cnn(classes=10)")
PROTOCOLS = {
    "mnist": Protocol(mnist_data, ("mnist", "anchors"), "mnist_cnn"),
    # All four vehicles are known, and two of the six animals: the other four are the unknown ones.
    "cifar10": Protocol(
        cifar10_data,
        ("resnet20", "anchors_cifar10"),
        "resnet20(classes=6)",
        always=(0, 1, 8, 9),
        drawn=(2, 3, 4, 5, 6, 7),
        ten=False,
    ),
}
