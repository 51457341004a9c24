"""The data that a recipe names, in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch

from offmap import data
from offmap._utils.files import cache_folder
from offmap.data import ImageSet
from offmap.errors import ArgumentError, DataError, LabelError, ShapeError
from offmap.forward import Normalization
from offmap.networks import zoo
from offmap.training.fractals import fractals
from offmap.training.recipe import Recipe

_LIMIT = 1 << 35  # bytes of training images; beyond 32 GiB they would have to be streamed


@dataclass(frozen=True)
class Sets:
    """The data of a training run.

    Args:
        train: uint8 images with labels.
        validation: likewise, un-augmented; reported, and never used to choose anything.
        outliers: OOD images used in training.
        mixing: pictures for PixMix.
    """

    train: ImageSet
    validation: ImageSet
    outliers: ImageSet | None = None
    mixing: ImageSet | None = None

    def __post_init__(self) -> None:
        for part in (self.train, self.validation, self.outliers):
            if part is not None and part.images.dtype != torch.uint8:
                raise DataError(f"{part.name} holds floats: training takes uint8 images")
        for part in (self.validation, self.outliers):
            if part is not None and part.shape != self.train.shape:
                raise ShapeError(
                    f"images of {part.name} are {_size(part)}, and those of {self.train.name} "
                    f"{_size(self.train)}: load them at one size and with as many channels"
                )
        if self.train.labels is None or self.validation.labels is None:
            raise LabelError("training and validation data need labels")
        known, classes = self.train.classes, self.validation.classes
        if known and classes and known != classes:
            raise LabelError(
                f"the classes of {self.validation.name} ({', '.join(classes[:6])}) are not those "
                f"of {self.train.name} ({', '.join(known[:6])})"
            )

    @property
    def parts(self) -> dict[str, ImageSet]:
        """The sets that there are, by name."""
        return {name: part for name, part in vars(self).items() if part is not None}

    @classmethod
    def of(cls, recipe: Recipe, train: ImageSet, validation: ImageSet) -> Self:
        """Data of the caller, with the outliers and pictures that a recipe names."""
        return cls(train, validation).with_named(recipe)

    def with_named(self, recipe: Recipe) -> Self:
        """The same with the outliers and pictures that a recipe names, where there are none yet.

        Raises:
            ArgumentError: there are some that the recipe makes no use of.
        """
        if self.outliers is not None and not recipe.reads_outliers:
            raise ArgumentError(
                f"outliers are given ({self.outliers.name}), and {recipe.objective} makes no use "
                "of them"
            )
        if self.mixing is not None and not recipe.pixmix:
            raise ArgumentError(
                f"pictures to mix in are given ({self.mixing.name}), and the recipe has no pixmix: "
                "set its options, k, beta or severity"
            )
        outliers, pictures = self.outliers, self.mixing
        if outliers is None and recipe.outliers is not None:
            outliers = _load_like(recipe.outliers, self.train)
        if pictures is None:
            pictures = mixing(recipe, self.train)
        return replace(self, outliers=outliers, mixing=pictures)


class Named(Sets):
    """The data that a recipe names, and no other."""


def load(recipe: Recipe) -> Sets:
    """All data that a recipe names."""
    return Named.of(recipe, *known(recipe))


def known(recipe: Recipe) -> tuple[ImageSet, ImageSet]:
    """The training and the validation data of a recipe."""
    images = _in_memory(
        recipe.data,
        size=recipe.size,
        resize=data.check_resize(recipe.resize),
        channels=recipe.channels,
        limit=recipe.limit,
        seed=recipe.seed,
    )
    if recipe.validation is not None:
        return images, _load_like(recipe.validation, images)
    validation, train = images.split(recipe.holdout, seed=recipe.seed)
    return train, validation


def mixing(recipe: Recipe, like: ImageSet) -> ImageSet | None:
    """The pictures that PixMix mixes in: ``fractals:N``, or a folder."""
    if not recipe.pixmix:
        return None
    spec = str(recipe.pixmix.get("mixing_set", "fractals:2000"))
    height, width = (9 * side // 8 for side in like.shape[1:])  # as published: room for crops
    if spec.partition(":")[0] == "fractals":
        count = spec.partition(":")[2] or "2000"
        if not count.isdecimal():
            raise ArgumentError(f"pixmix.mixing_set is fractals:N or a folder; seen {spec!r}")
        return fractals(int(count), (height, width), seed=recipe.seed, cache=cache_folder())
    return _in_memory(spec, size=(height, width), channels=3)


def normalization(text: str) -> Normalization:
    """How images are normalised, from what a user writes.

    Args:
        text: the name of a known data set, ``zoo:NAME``, ``MEAN,.../STD,...``, per_image, or none.

    Raises:
        ArgumentError: it is none of these.
        StoreError: the card of the zoo cannot be read.

    >>> normalization("mnist")
    Normalization(mean=(0.1307,), std=(0.3081,), per_image=False, known=True)
    """
    if text.startswith(zoo.PREFIX):
        card = zoo.card(text.removeprefix(zoo.PREFIX))
        return Normalization(**card.normalization)  # type: ignore[arg-type]  # the card is checked
    if text in ("none", "per_image") or "/" in text:
        return Normalization.parse(text)
    mean, std = data.channel_statistics(text)
    return Normalization(mean, std)


def _load_like(spec: str, like: ImageSet) -> ImageSet:
    channels, height, width = like.shape
    return _in_memory(spec, size=(height, width), resize=like.resize or "crop", channels=channels)


def _size(part: ImageSet) -> str:
    return "x".join(map(str, part.shape))


def _in_memory(spec: str, **options: Any) -> ImageSet:
    images = data.load(spec, keep_in_memory_bytes=_LIMIT, **options)
    if not isinstance(images, ImageSet):
        raise DataError(f"{spec} is larger than 32 GiB: train on smaller images, or on a part")
    return images
