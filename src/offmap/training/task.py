"""A recipe in Lightning's terms."""

from __future__ import annotations

import time
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from offmap.activations import HasMembers
from offmap.errors import NonFiniteError
from offmap.forward import Normalization
from offmap.training import optim
from offmap.training._checks import (
    check_augmentation,
    check_objective,
    check_outputs,
    in_fastest_layout,
    pixmix_options,
)
from offmap.training._seeds import seeded
from offmap.training.augment import Augment
from offmap.training.batches import Batches
from offmap.training.objectives import objective
from offmap.training.pixmix import PixMix
from offmap.training.recipe import Recipe
from offmap.training.sets import Sets
from offmap.training.validation import validated


class Task(lightning.LightningModule):
    """Trains a network on images that stay on its device as uint8.

    Lightning's loader is a range of steps: each step picks, augments and normalises its own rows,
    with all randomness seeded by recipe and step. So resuming needs no generator's state.

    Args:
        recipe: how.
        network: what; it is changed in place.
        sets: on what.
        normalization: of the images.

    Attributes:
        history: figures of each finished epoch; part of the checkpoint.

    Raises:
        ShapeError: the network does not take these images, its members differ in their classes, or
            the images cannot be cut into the patches of the recipe.
        LabelError: there are labels beyond the classes of the network.
        ArgumentError: the objective does not fit the network, or an augmentation the images.
    """

    def __init__(
        self, recipe: Recipe, network: nn.Module, sets: Sets, normalization: Normalization
    ) -> None:
        super().__init__()
        check_outputs(network, sets, normalization)
        check_objective(recipe, network, sets)
        check_augmentation(recipe, sets)
        self.recipe = recipe
        self.network, self.layout = in_fastest_layout(network, sets, normalization)
        self.sets = sets
        self.normalization = normalization
        self.average: AveragedModel | None = None
        if recipe.ema:
            # Running statistics are averaged too: those of the last steps belong to other weights.
            update = get_ema_multi_avg_fn(recipe.ema)  # type: ignore[no-untyped-call]
            average = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
            self.average = average.requires_grad_(False)
        self.objective = objective(recipe.objective, **recipe.objective_options)
        # A module of its own, so that its pictures move to the device.
        options = pixmix_options(recipe)
        self.pixmix = None if sets.mixing is None else PixMix(sets.mixing, **options)
        mix = None if self.pixmix is None else self._mix
        self.augment = Augment(recipe, sets.train.shape[1:], normalization, mix)
        self.history: list[dict[str, float]] = []

    @property
    def trained(self) -> nn.Module:
        """The network that is saved, which is the averaged one where there is an average."""
        return self.network if self.average is None else self.average.module

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training data, or one smaller one."""
        return max(len(self.sets.train) // self.recipe.batch_size, 1)

    def train_dataloader(self) -> range:
        """The steps of an epoch."""
        return range(self.steps_per_epoch)

    def configure_optimizers(self) -> Any:
        """Optimizer, and a schedule that moves at each step."""
        optimizer = optim.optimizer(self.recipe, self.network.parameters())
        schedule = optim.schedule(self.recipe, optimizer, self.steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Put the data on the device."""
        self._batches = Batches(
            self.recipe,
            self.sets,
            self.augment,
            self.device,
            layout=self.layout,
            members=len(self.network.members) if isinstance(self.network, HasMembers) else 0,
            rank=self.global_rank,
            devices=self.trainer.world_size,
        )

    def on_train_epoch_start(self) -> None:
        """Start counting."""
        self._started = time.perf_counter()
        self._sums = torch.zeros(3, device=self.device)  # loss, correct predictions, images

    def training_step(self, step: int, _: int) -> Tensor:
        """The loss of one step."""
        with seeded(self.device, self.recipe.seed, "step", self.global_step, self.global_rank):
            batch = self._batches(self.current_epoch, step, self.global_step)
            outcome = self.objective(self.network, batch)
        correct = (outcome.logits.argmax(1) == batch.labels).sum()
        count = torch.tensor(len(batch.labels), device=self.device)
        self._sums += torch.stack([outcome.loss.detach() * count, correct, count])
        return outcome.loss

    def _mix(self, images: Tensor) -> Tensor:
        assert self.pixmix is not None
        # Inside seeded(), so the global generator decides.
        seed = int(torch.randint(2**62, (), device="cpu"))
        mixed: Tensor = self.pixmix(images, torch.Generator().manual_seed(seed))
        return mixed

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the average, if there is one."""
        if self.average is not None:
            self.average.update_parameters(self.network)

    def on_train_epoch_end(self) -> None:
        """Add this epoch's figures to the history.

        Raises:
            NonFiniteError: the loss has become NaN or infinite.
        """
        sums = self.trainer.strategy.reduce(self._sums, reduce_op="sum")  # over the devices
        loss, accuracy, _ = (sums / sums[2]).tolist()
        if loss != loss or abs(loss) == float("inf"):
            raise NonFiniteError(
                f"the loss became {loss} in epoch {self.current_epoch + 1}: lower lr, or use "
                "precision fp32; the checkpoint of the epoch before is kept"
            )
        row = {
            "epoch": self.current_epoch + 1,
            "lr": float(self.trainer.optimizers[0].param_groups[0]["lr"]),
            "train_loss": loss,
            "train_accuracy": accuracy,
            **self.validate(),
        }
        row["seconds"] = round(time.perf_counter() - self._started, 2)
        self.history.append(row)

    def validate(self) -> dict[str, float]:
        """Loss and accuracy of the network that is saved, on the validation data."""
        loss, accuracy = validated(
            self.trained,
            self.sets.validation,
            self.normalization,
            precision=self.recipe.precision,
        )
        return {"validation_loss": loss, "validation_accuracy": accuracy}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep history and recipe with the weights."""
        checkpoint["history"], checkpoint["recipe"] = self.history, self.recipe.record()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the history back."""
        self.history = checkpoint["history"]
