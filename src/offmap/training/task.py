"""A recipe in Lightning's terms."""

from __future__ import annotations

import time
from typing import Any

import lightning
import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from offmap.errors import NonFiniteError
from offmap.forward import Normalization, Probe, forward
from offmap.training import optim
from offmap.training._checks import check_outputs, pixmix_options
from offmap.training._seeds import generator, seeded
from offmap.training.augment import Augment
from offmap.training.objectives import Batch, objective
from offmap.training.pixmix import PixMix
from offmap.training.recipe import Recipe
from offmap.training.sets import Sets


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
        ShapeError: the network does not take these images.
        LabelError: there are labels beyond the classes of the network.
    """

    def __init__(
        self, recipe: Recipe, network: nn.Module, sets: Sets, normalization: Normalization
    ) -> None:
        super().__init__()
        check_outputs(network, sets, normalization)
        self.recipe = recipe
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sets = sets
        self.normalization = normalization
        self.average = _average(network, recipe.ema) if recipe.ema else None
        self.objective = objective(recipe.objective, **recipe.objective_options)
        # A module of its own, so that its pictures move to the device.
        self.pixmix = _pixmix(recipe, sets)
        mix = None if self.pixmix is None else self._mix
        self.augment = Augment(recipe, sets.train.shape[1:], normalization, mix)
        self.history: list[dict[str, float]] = []
        self._order = (-1, torch.empty(0))

    @property
    def trained(self) -> nn.Module:
        """The network that is kept: the averaged one where there is an average."""
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
        made = optim.optimizer(self.recipe, self.network.parameters())
        schedule = optim.schedule(self.recipe, made, self.steps_per_epoch)
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        """Put the data on the device."""
        train, outliers = self.sets.train, self.sets.outliers
        assert train.labels is not None
        self._images = train.images.to(self.device)
        self._labels = train.labels.to(self.device)
        self._outliers = None if outliers is None else outliers.images.to(self.device)

    def on_train_epoch_start(self) -> None:
        """Start counting."""
        self._started = time.perf_counter()
        self._sums = torch.zeros(3, device=self.device)  # loss, right answers, images

    def training_step(self, step: int, _: int) -> Tensor:
        """The loss of one step."""
        with seeded(self.device, self.recipe.seed, "step", self.global_step, self.global_rank):
            batch = self.batch(step)
            outcome = self.objective(self.network, batch)
        right = (outcome.logits.argmax(1) == batch.labels).sum()
        count = torch.tensor(len(batch.labels), device=self.device)
        self._sums += torch.stack([outcome.loss.detach() * count, right, count])
        return outcome.loss

    def batch(self, step: int) -> Batch:
        """The augmented batch of one step of this epoch."""
        rows = self._rows(step)
        images = self._as_network_reads(self._images[rows])
        outliers = None
        if self._outliers is not None:
            count = self.recipe.outlier_batch // self.trainer.world_size
            chosen = torch.randint(len(self._outliers), (count,)).to(self.device)
            outliers = self._as_network_reads(self._outliers[chosen])
        return Batch(images, self._labels[rows], outliers)

    def _as_network_reads(self, images: Tensor) -> Tensor:
        augmented: Tensor = self.augment(images)
        return augmented.contiguous(memory_format=torch.channels_last)

    def _rows(self, step: int) -> Int64[Tensor, " n"]:
        """The rows of this step on this device: each epoch has a seeded order."""
        epoch, size = self.current_epoch, self.recipe.batch_size
        if self._order[0] != epoch:
            drawn = generator(torch.device("cpu"), self.recipe.seed, "order", epoch)
            order = torch.randperm(len(self._images), generator=drawn)
            self._order = (epoch, order.to(self.device))
        block = self._order[1][step * size : (step + 1) * size]
        return block[self.global_rank :: self.trainer.world_size]

    def _mix(self, images: Tensor) -> Tensor:
        assert self.pixmix is not None
        # Inside seeded(), so the global generator decides.
        drawn = int(torch.randint(2**62, ()))
        mixed: Tensor = self.pixmix(images, torch.Generator().manual_seed(drawn))
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
        loss, right, _ = (sums / sums[2]).tolist()
        if loss != loss or abs(loss) == float("inf"):
            raise NonFiniteError(
                f"the loss became {loss} in epoch {self.current_epoch + 1}: lower lr, or use "
                "precision fp32; the checkpoint of the epoch before is kept"
            )
        found = {"epoch": self.current_epoch + 1, "lr": self._lr(), "train_loss": loss}
        found |= {"train_accuracy": right, **self.validate()}
        found["seconds"] = round(time.perf_counter() - self._started, 2)
        self.history.append(found)

    def _lr(self) -> float:
        return float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def validate(self) -> dict[str, float]:
        """Loss and accuracy of the network that is kept, on the validation data."""
        precision, loss, right = self.recipe.precision, 0.0, 0
        with Probe(self.trained, precision=precision, normalization=self.normalization) as probe:
            for acts, labels in forward(probe, self.sets.validation, show_progress=False):
                assert labels is not None
                loss += float(F.cross_entropy(acts.logits, labels, reduction="sum"))
                right += int((acts.logits.argmax(1) == labels).sum())
        count = len(self.sets.validation)
        return {"validation_loss": loss / count, "validation_accuracy": right / count}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep history and recipe with the weights."""
        checkpoint["history"], checkpoint["recipe"] = self.history, self.recipe.record()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the history back."""
        self.history = checkpoint["history"]


def _pixmix(recipe: Recipe, sets: Sets) -> PixMix | None:
    if sets.mixing is None:
        return None
    return PixMix(sets.mixing, **pixmix_options(recipe))


def _average(network: nn.Module, decay: float) -> AveragedModel:
    # Running statistics are averaged too: those of the last steps belong to other weights.
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    made = AveragedModel(network, multi_avg_fn=update, use_buffers=True)
    return made.requires_grad_(False)
