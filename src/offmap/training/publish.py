"""A finished run as a network of the zoo."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import msgspec
import torch

from offmap.errors import ArgumentError, DataError
from offmap.networks import build, zoo
from offmap.networks.checkpoint import place
from offmap.training import sets
from offmap.training.folder import finished, run_of
from offmap.training.recipe import Recipe
from offmap.training.validation import validated

# In front of a file, from the root or from home; none of an address, which has two slashes.
_FOLDERS = re.compile(r"(^|[=,:@])(?:~/|/(?!/))(?:[^=,:@/]*/)*")


def publish(
    run: str | Path, name: str, *, folder: str | Path = "zoo", overwrite: bool = False
) -> Path:
    """Write the network of a run into a zoo folder, its weights halved, with its card.

    Matrices and kernels are rounded to bfloat16. The card's accuracy is measured anew, in float32,
    on the weights as they are stored.

    Args:
        run: folder of a finished run.
        name: in the zoo.
        folder: the zoo.
        overwrite: replace another network of that name.

    Raises:
        ArgumentError: there is a network of that name.
        StoreError: the run is not finished, or its card cannot be read.
        DataError: the validation data that its recipe names is not what it was validated on.
    """
    run = Path(run)
    if (Path(folder) / f"{name}.json").exists() and not overwrite:
        raise ArgumentError(
            f"{folder} has a network {name} already: choose another name, or --overwrite"
        )
    card, weights = finished(run)
    recipe = Recipe.of(card.recipe)
    network = place(build(recipe.network), weights, str(run))
    with torch.no_grad():
        for value in network.state_dict().values():
            value.copy_(zoo.as_stored(value, half=True))
    _, validation = sets.known(recipe)
    then = run_of(run).data["validation"]
    if (validation.fingerprint, validation.label_fingerprint) != (then.fingerprint, then.labels):
        part = "data" if validation.fingerprint != then.fingerprint else "labels"
        raise DataError(
            f"{validation.name} does not hold the {part} that {run} was validated on: publish it "
            "where those are"
        )
    normalization = sets.normalization(recipe.normalization)
    accuracy = validated(network, validation, normalization)[1]
    # A run begun from Python may have neither.
    entry = {"budget": None, "command": None, **msgspec.to_builtins(card)}
    entry["command"] = portable(entry["command"])
    return zoo.add(folder, name, network, entry | {"accuracy": accuracy}, half=True)


def portable(command: str | None) -> str | None:
    """A command without the folders of one machine: that of its output, and those of its files.

    >>> portable("offmap train --out runs/1 --set epochs=1 --out=runs/2")
    'offmap train --set epochs=1'
    >>> portable("offmap train --recipe /me/a.json --set start=~/b/c data=s3://x/y")
    'offmap train --recipe a.json --set start=c data=s3://x/y'
    """
    words = shlex.split(command or "")
    pairs = zip(words, ["", *words], strict=False)
    arguments = (
        _FOLDERS.sub(r"\1", word) for word, before in pairs if "--out" not in (word, before)
    )
    return shlex.join(word for word in arguments if not word.startswith("--out=")) or None
