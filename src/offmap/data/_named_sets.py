"""The data sets that papers name."""

from __future__ import annotations

from dataclasses import dataclass

from offmap._utils.arguments import did_you_mean
from offmap.errors import UnknownNameError

Channels = tuple[float, ...]


@dataclass(frozen=True)
class NamedSet:
    """What is known of a data set without having it.

    Args:
        title: what tables call it.
        repository: where the Hugging Face hub has it, if it does.
        config: which of the repository's sets.
        splits: what the repository calls them.
        image: its column of images.
        label: its column of labels.
        mean: of each channel over the training images, in [0, 1], as networks are trained with.
        std: standard deviation, likewise.
        note: doubts, or where its authors publish it.
    """

    title: str
    repository: str | None = None
    config: str | None = None
    splits: tuple[str, ...] = ("train", "test")
    image: str = "image"
    label: str = "label"
    mean: Channels | None = None
    std: Channels | None = None
    note: str = ""


_CIFAR10 = NamedSet(
    "CIFAR-10",
    "uoft-cs/cifar10",
    image="img",
    mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
    std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
)
_CIFAR100 = NamedSet(
    "CIFAR-100",
    "uoft-cs/cifar100",
    image="img",
    label="fine_label",
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
)
_TINY = NamedSet(
    "Tiny ImageNet",
    "zh-plus/tiny-imagenet",
    splits=("train", "valid"),
    note="64x64, 200 classes; some are CIFAR's too (cats, dogs, trucks)",
)
_IMAGENET = NamedSet(
    "ImageNet sample",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    note="one photograph of each class; ImageNet itself is published at image-net.org",
)

_SETS = {
    "cifar10": _CIFAR10,
    "cifar100": _CIFAR100,
    "emnist_letters": NamedSet("EMNIST letters", note="published by NIST, as EMNIST"),
    "fashion_mnist": NamedSet("FashionMNIST", "zalando-datasets/fashion_mnist"),
    "imagenet_sample": _IMAGENET,
    "lsun": NamedSet("LSUN", note="published at github.com/fyu/lsun"),
    "mnist": NamedSet("MNIST", "ylecun/mnist", mean=(0.1307,), std=(0.3081,)),
    "notmnist": NamedSet("notMNIST", note="letters A to J in many fonts, by Yaroslav Bulatov"),
    "omniglot": NamedSet("Omniglot", note="published at github.com/brendenlake/omniglot"),
    "places": NamedSet("Places365", note="published at places2.csail.mit.edu"),
    "svhn": NamedSet("SVHN", "ufldl-stanford/svhn", "cropped_digits", ("train", "test", "extra")),
    "svhn370": NamedSet("SVHN, 370 digits", note="a small sample: give its intervals with it"),
    "textures": NamedSet("Textures", note="DTD, published at www.robots.ox.ac.uk/~vgg/data/dtd"),
    "tiny_imagenet": _TINY,
    "usps": NamedSet("USPS", note="16x16 digits: shifted ID for MNIST rather than OOD"),
}


def named_sets() -> dict[str, NamedSet]:
    """The data sets that are known by name.

    >>> named_sets()["cifar100"].label
    'fine_label'
    """
    return dict(_SETS)


def channel_statistics(name: str) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each channel, in [0, 1], as networks are trained with.

    >>> channel_statistics("mnist")
    ((0.1307,), (0.3081,))

    Raises:
        UnknownNameError: none are known for that name.
    """
    normalized = {n: e for n, e in {"imagenet": _IMAGENET, **_SETS}.items() if e.mean}
    entry = normalized.get(name)
    if entry is None or entry.mean is None or entry.std is None:
        raise UnknownNameError(
            f"no channel mean is known for {name!r}: {did_you_mean(name, normalized)}known are "
            f"those of {', '.join(sorted(normalized))}"
        )
    return entry.mean, entry.std
