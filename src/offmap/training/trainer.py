"""Lightning's trainer, set up for one run."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import lightning
import torch

from offmap._utils.progress import on_terminal
from offmap.errors import StoreError
from offmap.training.folder import CHECKPOINT
from offmap.training.history import Epoch
from offmap.training.keeper import Keeper
from offmap.training.task import Task


def fit(
    task: Task,
    out: Path,
    *,
    device: torch.device | None,
    devices: int,
    after_epoch: Sequence[Callable[[Epoch], None]],
    keep_every: int,
    show_progress: bool | None,
) -> None:
    """Train, from the checkpoint in ``out`` if there is one.

    Raises:
        StoreError: the checkpoint cannot be read.
    """
    checkpoint = out / CHECKPOINT
    if resumed := checkpoint.is_file():
        try:
            torch.load(checkpoint, weights_only=True, map_location="cpu")
        except (OSError, MemoryError) as error:  # the file may be intact: nothing is to be deleted
            why = str(error) or "there is not enough memory"
            raise StoreError(f"{checkpoint} cannot be read: {why}") from error
        # Bytes that are no checkpoint can fail the reader in any way.
        except Exception as error:
            raise StoreError(
                f"{checkpoint} cannot be read: delete it, and the run starts anew"
            ) from error
    indices = [] if device is None or device.index is None else [device.index]
    on_gpu = torch.cuda.is_available() if device is None else device.type == "cuda"
    show = on_terminal() if show_progress is None else show_progress
    with _quiet(), _interruptible():
        trainer = lightning.Trainer(
            accelerator="auto" if device is None else device.type,
            devices=indices if indices and on_gpu else devices,
            precision="bf16-mixed" if task.recipe.precision == "bf16" else "32-true",
            max_epochs=task.recipe.epochs,
            default_root_dir=out,
            logger=False,
            callbacks=[Keeper(out, after_epoch, keep_every)],
            enable_progress_bar=show,
            enable_model_summary=False,
            use_distributed_sampler=False,
            sync_batchnorm=devices > 1 and on_gpu,
        )
        trainer.fit(task, ckpt_path=str(checkpoint) if resumed else None, weights_only=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's remarks on the machine, and one warning about torch; others stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C stays Ctrl-C: Lightning ends the program instead, and leaves the signal ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        signal.signal(signal.SIGINT, before)
