"""The ensembles of study C: trained, or put together from what the user has."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from offmap.errors import ArgumentError, DataNotFoundError, StoreError
from offmap.networks import VGG16, Ensemble, build, load_weights
from offmap.studies._candidates import Candidate, Origin, candidate
from offmap.studies._data import Data
from offmap.studies._running import Running
from offmap.training import Recipe, Sets, normalization, recipe

_WHERE = "give zoo:NAME, the folder of a run, a checkpoint, or members between commas"
# By name of a network: the recipe that makes it.
NETWORKS = {"plain": "ensemble", "disagreement": "disagreement"}


def given(name: str, spec: str) -> Candidate:
    """A network that the user has: one by itself, or an ensemble from its members.

    Raises:
        DataNotFoundError, StoreError: it, or which of its members, cannot be loaded.
        ArgumentError: members that were normalised differently.
    """
    own = recipe("ensemble").network if name in NETWORKS else "vgg16"
    origin = Origin(lambda path: load_weights(build(own), path), "per_image", _WHERE)
    if "," not in spec.partition("@")[0]:
        return candidate(spec, origin)
    single = Origin(_vgg16, "per_image", _WHERE)
    members = [_member(name, i, part, single) for i, part in enumerate(spec.split(","))]
    if len({each.normalization for each in members}) > 1:
        raise ArgumentError(f"the members of {name} were trained with different normalisations")
    source = f"{len(members)} members: {', '.join(each.source for each in members)}"
    return Candidate(Ensemble([each.network for each in members]), members[0].normalization, source)


def _member(name: str, i: int, spec: str, origin: Origin) -> Candidate:
    try:
        return candidate(spec, origin)
    except (DataNotFoundError, StoreError) as error:
        raise type(error)(f"member {i + 1} of {name}: {error}") from error


def _vgg16(path: Path) -> nn.Module:
    return load_weights(VGG16(), path)


@dataclass(frozen=True)
class Training:
    """How the study trains its ensembles.

    Args:
        running: with budget, seed and changes of the recipes; "full" trains both from scratch, as
            the source does, the others from the weights of a common start, which costs less.
    """

    running: Running

    def networks(self, out: Path, found: Data, names: Sequence[str]) -> dict[str, Candidate]:
        """The ensembles of these names."""
        start = (
            None
            if self.running.budget == "full"
            else self._trained("ensemble", out / "start", found)
        )
        return {name: self._candidate(name, out / name, found, start) for name in names}

    def _candidate(
        self, name: str, folder: Path, found: Data, start: nn.Module | None
    ) -> Candidate:
        network = self._trained(NETWORKS[name], folder, found, copy.deepcopy(start))
        of = self._recipe(NETWORKS[name])
        epochs = f"{of.epochs} epochs" if start is None else f"{of.epochs} + {of.epochs} epochs"
        source = f"{of.network}, {epochs} ({self.running.budget})"
        return Candidate(network, normalization(of.normalization), source)

    def _trained(
        self, name: str, folder: Path, found: Data, network: nn.Module | None = None
    ) -> nn.Module:
        of = self._recipe(name)
        return self.running.train(of, folder, Sets.of(of, found.train, found.test), network)

    def _recipe(self, name: str) -> Recipe:
        return self.running.recipe(name)
