"""What is written after each epoch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint

from offmap.training.history import Epoch, write_history


class Keeper(Checkpoint):
    """Writes checkpoint and ``metrics.csv`` after each epoch, then tells the others.

    As a ``Checkpoint`` Lightning calls it last, when the epoch's figures are there.
    """

    def __init__(self, out: Path, after_epoch: Sequence[Callable[[Epoch], None]]) -> None:
        self.out, self.after_epoch = out, after_epoch

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: Any) -> None:
        """Write, then tell."""
        temporary = self.out / ".last.ckpt"
        trainer.save_checkpoint(temporary)  # on every device, though only the first writes
        if not trainer.is_global_zero:
            return
        os.replace(temporary, self.out / "last.ckpt")
        write_history(self.out / "metrics.csv", task.history)
        number, of = len(task.history), task.recipe.epochs
        for call in self.after_epoch:
            call(Epoch(number, of, list(task.history), task.trained, self.out))
