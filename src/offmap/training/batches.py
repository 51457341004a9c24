"""The batches of a run, each a function of seed, epoch and step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Int64
from torch import Tensor

from offmap.data import patch_shuffle
from offmap.training._seeds import generator, seeded
from offmap.training.batch import Batch
from offmap.training.recipe import Recipe
from offmap.training.sets import Sets


class Batches:
    """Picks and augments the images of each step, on the device where the data lie.

    Call it inside ``seeded``: augmentation, outliers and contrast images draw from the global
    generators. Each member of an ensemble has its own order and generator, so that its images
    do not depend on how many members there are.

    Args:
        recipe: of the run.
        sets: its data.
        augment: from uint8 images to the input of the network.
        device: where they lie.
        layout: of the images in memory.
        members: of an ensemble; 0 for a plain network.
        rank: which of the devices this is.
        devices: how many share each batch.
    """

    def __init__(
        self,
        recipe: Recipe,
        sets: Sets,
        augment: Callable[[Tensor], Tensor],
        device: torch.device,
        *,
        layout: torch.memory_format = torch.channels_last,
        members: int = 0,
        rank: int = 0,
        devices: int = 1,
    ) -> None:
        assert sets.train.labels is not None
        self.recipe, self._augment, self.device, self.layout = recipe, augment, device, layout
        self.members, self.rank, self.devices = members, rank, devices
        self.images = sets.train.images.to(device)
        self.labels = sets.train.labels.to(device)
        self.outliers = None if sets.outliers is None else sets.outliers.images.to(device)
        self._orders: dict[tuple[int, ...], tuple[int, Tensor]] = {}

    def __call__(self, epoch: int, step: int, number: int) -> Batch:
        """The batch of one step.

        Args:
            epoch: from 0.
            step: of this epoch, from 0.
            number: of the step in the run, from 0.
        """
        if self.members:
            images, labels = self._member_batches(epoch, step, number)
        else:
            images, labels = self._augment_rows(self._rows(epoch, step))
        outliers = None
        if self.outliers is not None and self.recipe.contrast is None:
            outliers = self.augment(self._draw(self.outliers, self.recipe.outlier_batch))
        every = self.recipe.ordinary_every if self.recipe.contrast is not None else 0
        ordinary = bool(every) and number % every == every - 1
        return Batch(images, labels, outliers, self._contrast(ordinary), ordinary)

    def augment(self, images: Tensor) -> Tensor:
        """The images as the network reads them."""
        return self._augment(images).contiguous(memory_format=self.layout)

    def _augment_rows(self, rows: Int64[Tensor, " n"]) -> tuple[Tensor, Tensor]:
        return self.augment(self.images[rows]), self.labels[rows]

    def _member_batches(self, epoch: int, step: int, number: int) -> tuple[Tensor, Tensor]:
        """The batches of the members, one after another."""
        batches = []
        for member in range(self.members):
            place = ("step", number, self.rank, "member", member)
            with seeded(self.device, self.recipe.seed, *place):
                batches.append(self._augment_rows(self._rows(epoch, step, member)))
        images, labels = zip(*batches, strict=True)
        return torch.cat(images), torch.cat(labels)

    def _rows(self, epoch: int, step: int, *member: int) -> Int64[Tensor, " n"]:
        """The rows of this step on this device: each epoch has a seeded order."""
        size = self.recipe.batch_size
        if self._orders.get(member, (-1,))[0] != epoch:
            draws = generator(torch.device("cpu"), self.recipe.seed, "order", epoch, *member)
            order = torch.randperm(len(self.images), generator=draws, device=draws.device)
            self._orders[member] = (epoch, order.to(self.device))
        block = self._orders[member][1][step * size : (step + 1) * size]
        return block[self.rank :: self.devices]

    def _contrast(self, ordinary: bool) -> Tensor | None:
        """Contrast images, where the objective gives them a weight."""
        recipe = self.recipe
        weight = recipe.objective_options.get("ordinary_alpha" if ordinary else "alpha")
        if recipe.contrast is None or weight == 0:
            return None
        count = recipe.contrast_batch or recipe.batch_size
        if ordinary:
            return self.augment(self._draw(self.images, count))
        if recipe.contrast == "noise":
            shape = (count // self.devices, *self.images.shape[1:])
            return torch.randn(shape, device=self.device, dtype=torch.float32)
        if recipe.contrast == "outliers":
            assert self.outliers is not None
            return self.augment(self._draw(self.outliers, count))
        images = self.augment(self._draw(self.images, count))
        images = patch_shuffle(images, recipe.contrast_grid)
        return images.contiguous(memory_format=self.layout)

    def _draw(self, images: Tensor, count: int) -> Tensor:
        """This device's part of ``count`` images, drawn with replacement."""
        rows = torch.randint(len(images), (count // self.devices,), device="cpu")
        return images[rows.to(self.device)]
