"""What stands in the folder of a run."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from offmap._utils.files import atomic, write_json
from offmap.data import ImageSet
from offmap.errors import ArgumentError, DataError, StoreError
from offmap.training.recipe import Recipe
from offmap.training.sets import Sets, normalization

CHECKPOINT, WEIGHTS, CARD, RUN = "last.ckpt", "weights.safetensors", "card.json", "run.json"
EPOCHS = "epochs"  # a folder: the weights of single epochs


def check(out: Path, recipe: Recipe, resume: bool) -> None:
    """Refuse to mix two runs in one folder.

    Raises:
        ArgumentError: there is a run and ``resume`` was not asked for; or of another recipe.
        StoreError: its record cannot be read.
    """
    if not _has_begun(out):
        return
    if not resume:
        raise ArgumentError(f"{out} holds a run: give --resume to go on with it, or another folder")
    # Through a recipe, which adds what recipes lacked when the run began.
    known, now = Recipe.of(_known(out)["recipe"]).record(), recipe.record()
    if changed := [f"{k}: {known[k]!r}, now {now[k]!r}" for k in now if known[k] != now[k]]:
        raise ArgumentError(f"the run in {out} has another recipe ({'; '.join(changed)})")


def begin(
    out: Path, recipe: Recipe, sets: Sets, settings: dict[str, Any], *, start: str | None = None
) -> dict[str, Any]:
    """Write what the run is made of, and return it.

    Args:
        out: folder of the run.
        recipe: how.
        sets: on what.
        settings: more to keep; its budget and command stay those that the run began with.
        start: digest of the weights that it starts from, if not the recipe's seeded ones.

    Raises:
        DataError: the run in ``out`` began with other data, or from other weights.
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
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("offmap", "torch", "lightning", "kornia")},
        **({} if start is None else {"start": start}),
        **settings,
    }
    if _has_begun(out):
        check_same(out, sets.parts, start)
        before = _known(out)
        record |= {name: before[name] for name in ("budget", "command") if name in before}
    write_json(out / RUN, record)
    return record


def finish(
    out: Path, network: nn.Module, history: list[dict[str, float]], record: dict[str, Any]
) -> None:
    """Write the card, and then the weights: a run with weights is a finished run."""
    weights = _tensors(network)
    card = {
        "network": record["recipe"]["network"],
        "normalization": normalization(record["recipe"]["normalization"]).record(),
        **record,
        "accuracy": history[-1]["validation_accuracy"],
        "seconds": sum(row["seconds"] for row in history),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    write_json(out / CARD, card)
    with atomic(out / WEIGHTS) as temporary:
        temporary.write_bytes(weights)


def keep(out: Path, number: int, network: nn.Module) -> None:
    """Write the weights of one epoch."""
    with atomic(out / EPOCHS / f"{number:04}.safetensors") as temporary:
        temporary.write_bytes(_tensors(network))


def kept(out: str | Path) -> dict[int, Path]:
    """The weights that a run kept, by epoch: see ``keep_every`` of :func:`offmap.training.train`.

    >>> kept("no-such-run")
    {}
    """
    found = sorted((Path(out) / EPOCHS).glob("[0-9]*.safetensors"))
    return {int(path.stem): path for path in found}


def recipe_of(out: str | Path) -> Recipe:
    """The recipe of the run in a folder.

    Raises:
        StoreError: there is no run whose record can be read.
    """
    return Recipe.of(_known(Path(out))["recipe"])


def _tensors(network: nn.Module) -> bytes:
    state = {name: x.contiguous().cpu() for name, x in network.state_dict().items()}
    return bytes(save(state))


def _has_begun(out: Path) -> bool:
    """Whether there is something to lose: a run that failed at its start has left its record."""
    return any((out / name).is_file() for name in (CHECKPOINT, WEIGHTS))


def machine() -> str:
    """The kind of machine, as cards tell it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"{platform.system()} {platform.machine()}, {threads} thread{'s' * (threads > 1)}"


def _known(out: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((out / RUN).read_text())
        recipe, data = dict(content["recipe"]), dict(content["data"])
        return {**content, "recipe": recipe, "data": data}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{out / RUN} cannot be read: {error}") from error


def check_same(out: Path, parts: Mapping[str, ImageSet], start: str | None) -> None:
    """Refuse to go on with other data, or from other weights, than a run began with.

    Raises:
        DataError: they are others.
    """
    check_data(out, parts)
    if start != _known(out).get("start"):
        raise DataError(f"the run in {out} started from other weights: give another folder")


def check_data(out: str | Path, parts: Mapping[str, ImageSet]) -> None:
    """Refuse data that the run in a folder did not begin with.

    Args:
        out: the folder.
        parts: data by part: train, validation, outliers, mixing.

    Raises:
        DataError: the run began with others.
    """
    known = _known(Path(out))["data"]
    for part, now in parts.items():
        then = known.get(part, {})
        here = {"fingerprint": now.fingerprint, "labels": now.label_fingerprint}
        if changed := [name for name in here if name in then and then[name] != here[name]]:
            what = "data" if "fingerprint" in changed else "labels in its data"
            raise DataError(
                f"the run in {out} began with other {part} {what} than {now.name} holds now: give "
                "those, or another folder"
            )
