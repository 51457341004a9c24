"""A training run: started, interrupted, resumed, finished."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from offmap._utils.arguments import whole
from offmap.errors import ArgumentError, MissingExtraError
from offmap.forward import weights_digest
from offmap.networks import build
from offmap.networks.checkpoint import place
from offmap.training import folder
from offmap.training import sets as data_of
from offmap.training._checks import check_devices
from offmap.training._seeds import seeded
from offmap.training.history import Epoch
from offmap.training.recipe import Recipe
from offmap.training.sets import Sets
from offmap.training.trained import weights_of


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    sets: Sets | None = None,
    network: nn.Module | None = None,
    resume: bool = False,
    device: str | None = None,
    devices: int = 1,
    after_epoch: Sequence[Callable[[Epoch], None]] = (),
    keep_every: int = 0,
    show_progress: bool | None = None,
    settings: dict[str, Any] | None = None,
) -> nn.Module:
    """Train a network, and write everything that is needed to repeat it into one folder.

    ``run.json`` (recipe, versions, data), ``metrics.csv`` (a line an epoch), ``last.ckpt``, and at
    the end ``weights.safetensors`` with ``card.json``. Each is written atomically, so that a
    run that was killed at any moment goes on from its last finished epoch, and on the CPU of one
    machine ends in the same bits as an uninterrupted one; GPUs add in any order.

    Args:
        recipe: how.
        out: the folder of the run.
        sets: the data, if not what the recipe names; outliers and pictures that it names, and that
            these lack, are loaded.
        network: what to train, if not what the recipe names; its weights are where it starts, and
            the recipe then names no ``start``.
        resume: go on with the run in ``out``; start it, if there is none.
        device: "cpu" or "cuda"; by default the accelerator, if there is one.
        devices: how many, on one machine.
        after_epoch: called with each finished :class:`Epoch`; when a run goes on, with the last one
            again, because it may have been stopped in such a call.
        keep_every: epochs between weights that are kept as ``epochs/0010.safetensors``, those of
            the first and last epoch too; 0 keeps only the last.
        show_progress: ``None`` shows a bar on a terminal.
        settings: command, budget and watched, to be kept in run and card.

    Returns:
        The trained network, in evaluation mode.

    Raises:
        ArgumentError: ``out`` holds a run and ``resume`` is not set, or a run of another recipe;
            ``keep_every`` is no whole number; or a batch has fewer images than there are devices.
        DataError: the run in ``out`` began with other data, or from other weights.
        StoreError: another process trains in ``out``, or what lies there cannot be read.
        ShapeError, LabelError: network and data do not fit; nothing is written then.
        NonFiniteError: the loss became NaN or infinite.
        MissingExtraError: lightning or kornia is not installed.
    """
    out, keep_every = Path(out), whole("keep_every", keep_every, low=0)
    devices = whole("devices", devices)
    accelerator = check_devices(recipe, device, devices)
    # With several devices, Lightning starts this program again for each but the first.
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if first:
        folder.check(out, recipe, resume)
    network, start = _starting_weights(recipe, network, out)
    if folder.is_finished(out):
        folder.check_same(out, {} if sets is None else sets.parts, start)
        return place(network, folder.finished(out)[1], str(out)).eval()
    try:
        from offmap.training import trainer
        from offmap.training.task import Task
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "train") from error
    sets = data_of.load(recipe) if sets is None else sets.with_named(recipe)
    task = Task(recipe, network, sets, data_of.normalization(recipe.normalization))
    with folder.alone(out) if first else nullcontext():
        if first:  # another process may have begun one meanwhile
            folder.check(out, recipe, resume)
        record = (
            folder.begin(out, recipe, sets, settings or {}, start=start, device=accelerator)
            if first
            else {}
        )
        trainer.fit(
            task,
            out,
            device=accelerator,
            devices=devices,
            after_epoch=after_epoch,
            keep_every=keep_every,
            show_progress=show_progress,
        )
        # In the layout of networks that are loaded: another rounds otherwise.
        trained: nn.Module = task.trained.cpu()
        trained.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        if first:
            folder.finish(out, trained, task.history, record)
    return trained.eval()


def _starting_weights(
    recipe: Recipe, network: nn.Module | None, out: Path
) -> tuple[nn.Module, str | None]:
    """The network before the first step, and a digest of its weights where no seed drew them."""
    if network is not None:
        if recipe.start is not None:
            raise ArgumentError(
                f"the recipe starts from {recipe.start}, and a network is given: its weights are a "
                "start of their own; give one of the two"
            )
        return network, weights_digest(network)
    with seeded(torch.device("cpu"), recipe.seed, "weights"):
        network = build(recipe.network)
    if recipe.start is None:
        return network, None
    # Its weights are in the checkpoint, if there is one, wherever the start is by now.
    if (out / folder.CHECKPOINT).is_file() or folder.is_finished(out):
        return network, folder.run_of(out).start
    network = place(network, weights_of(recipe.start), recipe.start)
    return network, weights_digest(network)
