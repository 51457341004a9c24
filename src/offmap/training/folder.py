"""The folder of a run."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save
from torch import Tensor, nn

from offmap._utils import records
from offmap._utils.files import atomic, claimed
from offmap.data import ImageSet
from offmap.errors import ArgumentError, DataError, StoreError
from offmap.networks.card import WEIGHTS as LABEL
from offmap.networks.card import Card, parameter_count
from offmap.training.recipe import Recipe
from offmap.training.sets import Named, Sets, normalization

CHECKPOINT, WEIGHTS, CARD, RUN = "last.ckpt", "weights.safetensors", "card.json", "run.json"
EPOCHS = "epochs"  # a folder: the weights of single epochs
_LOCK = ".lock"
_COMMAND = "offmap train"


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One part of the data of a run.

    Args:
        name: of the set.
        images: how many were read.
        unreadable: how many could not be.
        classes: their names, if they have any.
        fingerprint: of the images.
        labels: fingerprint of the labels, if there are any.
    """

    name: str
    images: int
    unreadable: int
    classes: list[str]
    fingerprint: str
    labels: str | None


class Run(records.Record, frozen=True, kw_only=True):
    """The record of a run.

    Args:
        recipe: how.
        data: by part: train, validation, outliers, mixing.
        machine: kind of machine.
        versions: of the libraries.
        start: digest of the weights that it starts from, if not the recipe's seeded ones.
        budget: smoke, cpu or full.
        command: what began it.
        watched: what watches it, and what it keeps.
        given: whether the data came from a program, and not from what the recipe names.
    """

    recipe: dict[str, Any]
    data: dict[str, Part]
    machine: str
    versions: dict[str, str]
    start: str | None = None
    budget: str | None = None
    command: str | None = None
    watched: dict[str, Any] | None = None
    given: bool = False


def check(out: Path, recipe: Recipe, resume: bool) -> None:
    """Refuse to mix two runs in one folder.

    Raises:
        ArgumentError: there is a run and ``resume`` was not asked for; or of another recipe.
        StoreError: its record cannot be read.
    """
    if not has_begun(out):
        return
    if not resume:
        raise ArgumentError(f"{out} holds a run: give --resume to go on with it, or another folder")
    # Through a recipe, which adds what recipes lacked when the run began.
    before, now = recipe_of(out).record(), recipe.record()
    if changed := [f"{k}: {before[k]!r}, now {now[k]!r}" for k in now if before[k] != now[k]]:
        raise ArgumentError(f"the run in {out} has another recipe ({'; '.join(changed)})")


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """No other process trains in the folder while the block runs.

    Raises:
        StoreError: one does already.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / _LOCK
    try:
        file = claimed(path)
    except StoreError as error:
        raise StoreError(
            f"another process trains in {out}: wait for it, or give another folder"
        ) from error
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def begin(
    out: Path,
    recipe: Recipe,
    sets: Sets,
    settings: dict[str, Any],
    *,
    start: str | None = None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Write the record of the run, and return it.

    Args:
        out: folder of the run.
        recipe: how.
        sets: on what.
        settings: budget, command and watched of :class:`Run`; budget and command stay those that
            the run began with.
        start: digest of the weights that it starts from, if not the recipe's seeded ones.
        device: where it is trained, if that was asked for.

    Raises:
        DataError: the run in ``out`` began with other data, or from other weights.
        StoreError: a setting that the record of a run does not have.
    """
    record = {
        "recipe": recipe.record(),
        "data": {
            name: {
                "name": part.name,
                "images": len(part),
                "unreadable": len(part.skipped),
                "classes": list(part.classes),
                "fingerprint": part.fingerprint,
                "labels": part.label_fingerprint,
            }
            for name, part in sets.parts.items()
        },
        "machine": machine(device),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("offmap", "torch", "lightning", "kornia")},
        **({} if start is None else {"start": start}),
        **({} if isinstance(sets, Named) else {"given": True}),
        **settings,
    }
    if has_begun(out):
        check_same(out, sets.parts, start)
        before = run_of(out)
        origin = {"budget": before.budget, "command": before.command}
        record |= {name: value for name, value in origin.items() if value is not None}
    records.write(out, "run", record, {}, schema=Run)
    return record


def finish(
    out: Path, network: nn.Module, history: list[dict[str, float]], record: dict[str, Any]
) -> None:
    """Write the weights, and then the card: a run with a card is a finished run."""
    recipe = record["recipe"]
    card = {
        "network": recipe["network"],
        "normalization": normalization(recipe["normalization"]).record(),
        **record,
        "epochs": recipe["epochs"],
        "seed": recipe["seed"],
        "accuracy": history[-1]["validation_accuracy"],
        "parameters": parameter_count(network),
        "seconds": sum(row["seconds"] for row in history),
    }
    files, names = {LABEL: network.state_dict()}, {LABEL: WEIGHTS}
    records.write(out, "card", card, files, names=names, schema=Card)


def is_finished(out: str | Path) -> bool:
    """Whether the run in a folder is finished."""
    return (Path(out) / CARD).is_file()


def finished(out: str | Path) -> tuple[Card, dict[str, Tensor]]:
    """The card and the weights of a finished run, checked by their hash.

    Raises:
        StoreError: it is not finished, or one of the two cannot be read.
    """
    if not is_finished(out):
        raise StoreError(f"{out} holds no finished run: end one by `{_COMMAND} --resume`")
    card, files = records.read(out, "card", schema=Card, made_by=_COMMAND)
    return card, files[LABEL]


def keep(out: Path, number: int, network: nn.Module) -> None:
    """Write the weights of one epoch."""
    # Copies, because layers may share a tensor, which is refused.
    state = {name: x.cpu().clone().contiguous() for name, x in network.state_dict().items()}
    with atomic(out / EPOCHS / f"{number:04}.safetensors") as temporary:
        temporary.write_bytes(save(state))


def kept(out: str | Path) -> dict[int, Path]:
    """The weights that a run kept, by epoch: see ``keep_every`` of :func:`offmap.training.train`.

    >>> kept("no-such-run")
    {}
    """
    files = sorted((Path(out) / EPOCHS).glob("[0-9]*.safetensors"))
    return {int(path.stem): path for path in files if path.stem.isdecimal()}


def is_of_epoch(path: Path) -> bool:
    """Whether a file holds the weights that a run kept of one of its epochs."""
    run = path.absolute().parent.parent
    return path.absolute() in kept(run).values() and (run / RUN).is_file()


def run_of(out: str | Path) -> Run:
    """The record of the run in a folder.

    Raises:
        StoreError: there is none that can be read.
    """
    return records.read_record(Path(out) / RUN, "run", Run, made_by=_COMMAND)


def recipe_of(out: str | Path) -> Recipe:
    """The recipe of the run in a folder.

    Raises:
        StoreError: there is no run whose record can be read.
    """
    return Recipe.of(run_of(out).recipe)


def has_begun(out: Path) -> bool:
    """Whether there is training to lose: a run that failed at its start leaves a record alone."""
    return any((out / name).is_file() for name in (CHECKPOINT, WEIGHTS, CARD)) or bool(kept(out))


def machine(device: torch.device | None = None) -> str:
    """The kind of machine that a device is, as cards tell it; by default the one trained on."""
    if torch.cuda.is_available() if device is None else device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device is not None and device.type != "cpu":
        return f"{platform.system()} {platform.machine()}, {device.type}"
    threads = torch.get_num_threads()
    return f"{platform.system()} {platform.machine()}, {threads} thread{'s' * (threads > 1)}"


def check_same(out: Path, parts: Mapping[str, ImageSet], start: str | None) -> None:
    """Refuse to go on with other data, or from other weights, than a run began with.

    Raises:
        DataError: they are others.
    """
    check_data(out, parts)
    if start != run_of(out).start:
        raise DataError(f"the run in {out} started from other weights: give another folder")


def check_data(out: str | Path, parts: Mapping[str, ImageSet]) -> None:
    """Refuse data that the run in a folder did not begin with.

    Args:
        out: the folder.
        parts: data by part: train, validation, outliers, mixing.

    Raises:
        DataError: the run began with others.
    """
    before = run_of(out).data
    for name, part in parts.items():
        if name not in before:
            continue
        then, difference = before[name], None
        if then.fingerprint != part.fingerprint:
            difference = "data"
        elif then.labels != part.label_fingerprint:
            difference = "labels in its data"
        if difference is not None:
            raise DataError(
                f"the run in {out} began with other {name} {difference} than {part.name} holds "
                "now: give those, or another folder"
            )
