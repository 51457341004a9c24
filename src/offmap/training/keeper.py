"""Writing after each epoch: checkpoint, figures, weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Checkpoint

from offmap._utils.files import put_on_disk
from offmap.training import folder
from offmap.training.history import Epoch, write_history


class Keeper(Checkpoint):
    """Writes checkpoint and ``metrics.csv`` after each epoch, then calls the callbacks.

    Lightning calls a ``Checkpoint`` last, when the epoch's figures are there.

    Args:
        out: folder of the run.
        after_epoch: the callbacks.
        keep_every: epochs between weights that stay; 0 for none.
    """

    def __init__(
        self, out: Path, after_epoch: Sequence[Callable[[Epoch], None]], keep_every: int
    ) -> None:
        self.out, self.after_epoch, self.keep_every = out, after_epoch, keep_every

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: Any) -> None:
        """Write, then call the callbacks."""
        temporary = self.out / ".last.ckpt"
        trainer.save_checkpoint(temporary)  # on every device, though only the first writes
        if not trainer.is_global_zero:
            return
        number, of = len(task.history), task.recipe.epochs
        # Before the checkpoint: a run that resumes from an epoch then has its weights.
        if self.keep_every and (number in (1, of) or number % self.keep_every == 0):
            folder.keep(self.out, number, task.trained)
        put_on_disk(temporary)
        os.replace(temporary, self.out / "last.ckpt")
        self._call_back(task)

    def on_fit_start(self, trainer: lightning.Trainer, task: Any) -> None:
        """Call back for the epoch that a run resumes from: not all may have been called."""
        if task.history and trainer.is_global_zero:
            self._call_back(task)

    def _call_back(self, task: Any) -> None:
        """Write the figures, and call the callbacks."""
        write_history(self.out / "metrics.csv", task.history)
        number, of = len(task.history), task.recipe.epochs
        for callback in self.after_epoch:
            callback(Epoch(number, of, list(task.history), task.trained, self.out))
