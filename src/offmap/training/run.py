"""A training run in its folder: started, interrupted, resumed, finished."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from offmap.errors import ArgumentError, MissingExtraError, StoreError
from offmap.files import atomic, write_json
from offmap.networks import build, load_weights
from offmap.training import sets as data_of
from offmap.training._seeds import seeded
from offmap.training.recipe import Recipe
from offmap.training.sets import Sets

CHECKPOINT, WEIGHTS, CARD, RUN = "last.ckpt", "weights.safetensors", "card.json", "run.json"


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    sets: Sets | None = None,
    network: nn.Module | None = None,
    resume: bool = False,
    device: str | None = None,
    devices: int = 1,
    after_epoch: Sequence[Any] = (),
    show_progress: bool | None = None,
    settings: dict[str, Any] | None = None,
) -> nn.Module:
    """Train a network, and keep everything that is needed to repeat it in one folder.

    ``run.json`` (recipe, versions, data), ``metrics.csv`` (a line an epoch), ``last.ckpt``, and at
    the end ``weights.safetensors`` with ``card.json``. Each is written whole or not at all, so that
    a run that was killed at any moment goes on from its last finished epoch, and on one machine
    ends in the same bits as an uninterrupted one.

    Args:
        recipe: how.
        out: the folder of the run.
        sets: the data, if not what the recipe names.
        network: what to train, if not what the recipe names; its weights are where it starts.
        resume: go on with the run in ``out``; start it, if there is none.
        device: "cpu" or "cuda"; by default the accelerator, if there is one.
        devices: how many, on one machine.
        after_epoch: called with each finished :class:`Epoch`.
        show_progress: ``None`` shows a bar on a terminal.
        settings: more to keep in run and card, such as command and budget.

    Returns:
        The trained network, in evaluation mode.

    Raises:
        ArgumentError: ``out`` holds a run and ``resume`` was not asked for; or another recipe's.
        NonFiniteError: the loss became NaN or infinite.
        MissingExtraError: lightning or kornia is not installed.
    """
    out = Path(out)
    # With several devices, Lightning starts this program again for each but the first.
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if first:
        _check(out, recipe, resume)
    with seeded(torch.device("cpu"), recipe.seed, "weights"):
        network = build(recipe.network) if network is None else network
    if (out / WEIGHTS).is_file():
        return load_weights(network, out / WEIGHTS).eval()
    sets = data_of.load(recipe) if sets is None else sets
    record = _record(recipe, sets, settings or {})
    if first:
        write_json(out / RUN, record)
    task = _task(recipe, network, sets)
    _fit(task, out, device, devices, after_epoch, show_progress)
    if first:
        _finish(task, out, record)
    trained: nn.Module = task.trained
    return trained.cpu().eval()


def _check(out: Path, recipe: Recipe, resume: bool) -> None:
    """Refuse to mix two runs in one folder."""
    if not (out / RUN).is_file():
        return
    if not resume:
        raise ArgumentError(f"{out} holds a run: give --resume to go on with it, or another folder")
    try:
        known = json.loads((out / RUN).read_text())["recipe"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{out / RUN} cannot be read: {error}") from error
    now = recipe.record()
    if changed := [f"{k}: {known.get(k)!r}, now {now[k]!r}" for k in now if known.get(k) != now[k]]:
        raise ArgumentError(f"the run in {out} has another recipe ({'; '.join(changed)})")


def _task(recipe: Recipe, network: nn.Module, sets: Sets) -> Any:
    try:
        from offmap.training.task import Task
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "train") from error
    return Task(recipe, network, sets, data_of.normalization(recipe.normalization))


def _fit(
    task: Any,
    out: Path,
    device: str | None,
    devices: int,
    after_epoch: Sequence[Any],
    show_progress: bool | None,
) -> None:
    import lightning

    from offmap.training.keeper import Keeper

    show = sys.stderr.isatty() if show_progress is None else show_progress
    with _quiet():
        trainer = lightning.Trainer(
            accelerator={None: "auto", "cuda": "gpu"}.get(device, str(device)),
            devices=devices,
            precision="bf16-mixed" if task.recipe.precision == "bf16" else "32-true",
            max_epochs=task.recipe.epochs,
            default_root_dir=out,
            logger=False,
            callbacks=[Keeper(out, after_epoch)],
            enable_progress_bar=show,
            enable_model_summary=False,
            use_distributed_sampler=False,
            sync_batchnorm=devices > 1 and device != "cpu" and torch.cuda.is_available(),
        )
        checkpoint = out / CHECKPOINT
        start = str(checkpoint) if checkpoint.is_file() else None
        trainer.fit(task, ckpt_path=start, weights_only=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's remarks on the machine; its warnings stay, but for one on torch's own."""
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


def _record(recipe: Recipe, sets: Sets, settings: dict[str, Any]) -> dict[str, Any]:
    parts = {name: getattr(sets, name) for name in ("train", "validation", "outliers", "mixing")}
    return {
        "recipe": recipe.record(),
        "data": {
            name: {"name": part.name, "images": len(part), "fingerprint": part.fingerprint}
            for name, part in parts.items()
            if part is not None
        },
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("offmap", "torch", "lightning", "kornia")},
        **settings,
    }


def machine() -> str:
    """The kind of machine, as cards and results tell it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads"


def _finish(task: Any, out: Path, record: dict[str, Any]) -> None:
    normalization = task.normalization
    state = {name: x.contiguous().cpu() for name, x in task.trained.state_dict().items()}
    weights = save(state)
    card = {
        "network": task.recipe.network,
        "normalization": {"mean": list(normalization.mean), "std": list(normalization.std)},
        **record,
        "accuracy": task.history[-1]["validation_accuracy"],
        "seconds": sum(row["seconds"] for row in task.history),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_json(out / CARD, card)
    # Last, because a run with weights is a finished run.
    with atomic(out / WEIGHTS) as temporary:
        temporary.write_bytes(weights)
