"""Trained networks with the normalisation of their images, from zoo, run or checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from offmap._utils.files import expanded
from offmap.errors import ArgumentError, DataNotFoundError, StoreError
from offmap.forward import Normalization
from offmap.networks import Ensemble, build, load_weights, zoo
from offmap.networks.card import Card
from offmap.networks.checkpoint import place, read_weights
from offmap.networks.library import is_own
from offmap.training.folder import (
    WEIGHTS,
    finished,
    is_finished,
    is_of_epoch,
    recipe_of,
    run_of,
)
from offmap.training.recipe import Recipe
from offmap.training.sets import normalization


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Args:
        network: in evaluation mode.
        normalization: of its images.
        source: where it comes from, in words.
        trained_on: fingerprint of its training data, where its card tells it.
    """

    network: nn.Module
    normalization: Normalization
    source: str
    trained_on: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint does not say about itself.

    Args:
        load: the network of such a file, with its weights.
        normalization: what it was trained with.
        hint: where to find such a file, or what to give instead.
    """

    load: Callable[[Path], nn.Module]
    normalization: str
    hint: str

    def open(self, path: Path) -> nn.Module:
        """The network in a file, in evaluation mode.

        Raises:
            StoreError: it does not fit; says how another network is named.
        """
        try:
            return self.load(path).eval()
        except StoreError as error:
            raise StoreError(
                f"{error}\nIf it is of another network, name that and its normalisation: "
                f"NETWORK:FILE@NORMALIZATION, such as resnet56:{path.name}@imagenet"
            ) from error


def open_trained(spec: str, checkpoint: Checkpoint) -> Trained:
    """A network from ``zoo:NAME``, from a finished run or an epoch of any, or from a checkpoint.

    Args:
        spec: which, such as ``runs/plain`` and ``runs/plain/epochs/0010.safetensors``; a file may
            be followed by ``@`` and its normalisation, ``FILE@0.5/0.25``, and stand behind a
            network of this library, ``resnet56:FILE@imagenet``.
        checkpoint: how to read a file that is of no run, and names no network.

    Raises:
        DataNotFoundError: there is no such file; says where to find one.
        StoreError: it does not fit.
        ArgumentError: a network is named, and no normalisation; or one behind a run, which has its
            own.
    """
    if spec.startswith(zoo.PREFIX):
        card = zoo.card(spec.removeprefix(zoo.PREFIX))
        return Trained(build(spec), normalization(spec), spec, _trained_on(card))
    file, at, suffix = spec.rpartition("@")
    if not at or expanded(spec).exists():  # an "@" may belong to the name of a folder
        file, suffix = spec, ""
    name, colon, weights_file = file.partition(":")
    if colon and is_own(name):
        path = expanded(weights_file)
        if not suffix:
            raise ArgumentError(
                f"{name}:{path} does not say how its images were normalised: add @cifar10, "
                "@imagenet, @MEAN,.../STD,... or what else it was trained with"
            )
        if not path.is_file():
            raise DataNotFoundError(f"there is no checkpoint at {path}")
        network = build(name, weights=path).eval()
        source = f"{name}, {path.name}, normalised by {suffix}"
        return Trained(network, normalization(suffix), source)
    path = expanded(file)
    run = path.parent if path.name == WEIGHTS else path
    is_run = is_finished(run)
    if suffix and (is_run or is_of_epoch(path)):
        raise ArgumentError(
            f"the run of {path} says itself how its images are normalised: leave @{suffix} out"
        )
    if is_run:
        return open_run(run)
    if is_of_epoch(path):
        return open_epoch(path.absolute())
    if not path.is_file():
        raise DataNotFoundError(
            f"there is neither a checkpoint nor a finished run at {path}: {checkpoint.hint}"
        )
    text = suffix or checkpoint.normalization
    source = f"{path.name}, normalised by {text}"
    return Trained(checkpoint.open(path), normalization(text), source)


def open_run(run: Path) -> Trained:
    """The network of a finished run."""
    card, weights = finished(run)
    network = place(build(card.network), weights, str(run)).eval()
    source = run.absolute().name  # of "." too
    return Trained(network, _normalization_in(card), source, _trained_on(card))


def open_epoch(path: Path) -> Trained:
    """The weights that a run, finished or not, kept of one of its epochs."""
    run = path.parent.parent
    record, recipe = run_of(run), recipe_of(run)
    train = record.data.get("train")
    return Trained(
        network_of(recipe, path),
        normalization(recipe.normalization),
        f"{run.name}, epoch {int(path.stem)}",
        None if train is None else train.fingerprint,
    )


def network_of(recipe: Recipe, weights: Path) -> nn.Module:
    """The network of a recipe, with the weights in a file, in evaluation mode."""
    return load_weights(build(recipe.network), weights).eval()


def normalization_of(weights: Path) -> Normalization | None:
    """That of the run whose final weights, or those of an epoch, a file holds; else ``None``."""
    if weights.name == WEIGHTS and is_finished(weights.parent):
        return _normalization_in(finished(weights.parent)[0])
    if is_of_epoch(weights):
        return normalization(recipe_of(weights.absolute().parent.parent).normalization)
    return None


def weights_of(spec: str) -> Mapping[str, Tensor]:
    """The weights alone of ``zoo:NAME``, of a finished run, or of a checkpoint.

    Raises:
        UnknownNameError: the zoo has none of that name.
        DataNotFoundError: there is no such run or file.
        StoreError: it cannot be read.
    """
    if spec.startswith(zoo.PREFIX):
        return zoo.load(spec.removeprefix(zoo.PREFIX)).state_dict()
    path = expanded(spec)
    if is_finished(path):
        return finished(path)[1]
    if not path.is_file():
        raise DataNotFoundError(f"there is neither a checkpoint nor a finished run at {path}")
    return read_weights(path)


def open_members(specs: list[str], checkpoint: Checkpoint, *, name: str) -> Trained:
    """An ensemble of networks that were trained one by one.

    Args:
        specs: of the members, as for :func:`open_trained`.
        checkpoint: how to read such a file of one member.
        name: of the ensemble, for messages.

    Raises:
        DataNotFoundError, StoreError: which of the members cannot be loaded.
        ArgumentError: members that were normalised differently.
    """
    members = []
    for i, spec in enumerate(specs, 1):
        try:
            members.append(open_trained(spec, checkpoint))
        except (DataNotFoundError, StoreError) as error:
            raise type(error)(f"member {i} of {name}: {error}") from error
    if len({member.normalization for member in members}) > 1:
        raise ArgumentError(f"the members of {name} were trained with different normalisations")
    source = f"{len(members)} members: {', '.join(member.source for member in members)}"
    ensemble = Ensemble([member.network for member in members])
    return Trained(ensemble, members[0].normalization, source)


def _normalization_in(card: Card) -> Normalization:
    return Normalization(**card.normalization)  # type: ignore[arg-type]  # the card is checked


def _trained_on(card: Card) -> str | None:
    """The fingerprint of the training data, if the card states one."""
    train = card.data.get("train", {}) if isinstance(card.data, dict) else {}
    return train.get("fingerprint")
