"""What several tests need: activations of separated classes, and the real data where it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, settings
from torch import Tensor

from offmap.activations import Activations, Head, Heads, Sample, Tap
from offmap.detectors import Detector, Needs, catalogue, detector, taps_of

# Explaining a failure traces every line that runs, which takes minutes; a busy machine misses any
# deadline, and tests time nothing.
_PHASES = [p for p in Phase if p is not Phase.explain]
settings.register_profile("offmap", phases=_PHASES, deadline=None)
settings.load_profile("offmap")
# The tensors here are small: a second thread costs more than it brings, most on a busy machine.
torch.set_num_threads(1)


# What `make slow` runs, and `make test` does not: folders and files below tests/.
SLOW = (
    *(
        "test_cli.py",
        "contract/test_degenerate.py",
        "studies/",
        "training/test_run.py",
        "scale/test_ray.py",
    ),
    *("scale/test_commands.py", "serve/test_running.py", "serve/test_browser.py"),
    *("reporting/test_browser.py",),
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    assert all((here / name).exists() for name in SLOW)
    for item in items:
        if item.path.is_relative_to(here):
            name = item.path.relative_to(here).as_posix()
            if name.startswith(SLOW):
                item.add_marker("slow")


def pytest_configure(config: pytest.Config) -> None:
    """Most networks here are not trained, and much of their data stands in two roles."""
    for name in ("ChanceWarning", "FeaturesWarning", "OverlapWarning"):
        # Not in pyproject.toml: that is read before jaxtyping, which must be first to import.
        config.addinivalue_line("filterwarnings", f"ignore::offmap.errors.{name}")


@dataclass(frozen=True)
class Kind:
    """What the activations of a world have beside logits and features.

    Args:
        distances: the logits are minus the distances of the head's outputs to anchors, and there is
            no head to be known.
        members: so many networks, each with features and a head of its own; those of the first are
            the world's without members.
        layers: taps of the features as a map of 4 channels and 2 by 2 positions.
        inputs: samples, whose inputs are the features.
        negatives: the head has rows for names that are no class.
    """

    distances: bool = False
    members: int = 0
    layers: tuple[Tap, ...] = ()
    inputs: bool = False
    negatives: bool = False


@dataclass
class World:
    """ID activations with labels, OOD activations, and the head that made the logits."""

    acts: Activations | Sample
    labels: Tensor
    ood: Activations | Sample
    layer: Head
    kind: Kind = Kind()

    @property
    def head(self) -> Head | Heads | None:
        """The head, where the logits are its outputs; in a world of members the heads."""
        if self.kind.members:
            return tuple(member_of(self.layer, i)[0] for i in range(self.kind.members))
        if self.kind.negatives:
            return replace(self.layer, negatives=negatives(self.layer.weight.shape[1]))
        return None if self.kind.distances else self.layer

    @property
    def features(self) -> Tensor:
        """The ID features, of the first member where there are several."""
        acts = plain(self.acts)
        return (acts.members[0] if self.kind.members else acts).features

    def of(self, features: Tensor) -> Activations | Sample:
        """The activations of other features in this world."""
        return activations(features, self.layer, self.kind)

    def member(self, i: int) -> World:
        """The world of one member alone."""
        acts, ood = (plain(part).members[i] for part in (self.acts, self.ood))
        return World(acts, self.labels, ood, self.head[i])

    def only(self, rows: Tensor) -> World:
        """The same with some of the ID samples, or with these in another order."""
        return replace(self, acts=self.acts[rows], labels=self.labels[rows])

    def batches(self, size: int = 64) -> list[tuple[Activations | Sample, Tensor]]:
        rows = torch.arange(len(self.acts)).split(size)
        return [(self.acts[r], self.labels[r]) for r in rows]


def negatives(width: int) -> Tensor:
    """Rows for names that are no class."""
    return torch.randn(40, width, generator=torch.Generator().manual_seed(7))


def plain(acts: Activations | Sample) -> Activations:
    """The activations of a sample."""
    return acts.acts if isinstance(acts, Sample) else acts


def activations(features: Tensor, layer: Head, kind: Kind = Kind()) -> Activations | Sample:
    """What a network makes of features, which are its inputs too."""
    if not kind.inputs:
        return network(features, layer, kind)

    def run(
        inputs: Tensor, edit: dict[str, Callable[[Tensor], Tensor]] | None = None
    ) -> Activations:
        for change in (edit or {}).values():
            inputs = change(inputs.unflatten(1, (4, 2, 2))).flatten(1)
        return network(inputs, layer, kind)

    def under(inputs: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        return network(inputs, Head(**parameters), kind).logits

    parameters = {"weight": layer.weight, "bias": layer.bias}
    return Sample(run(features), features, run, parameters, under)


def network(features: Tensor, layer: Head, kind: Kind) -> Activations:
    """What a layer makes of features: logits, or minus the distances to anchors at 10."""
    if kind.members:
        pairs = [member_of(layer, i) for i in range(kind.members)]
        one = replace(kind, members=0)
        return Activations.of_members([network(turn(features), own, one) for own, turn in pairs])
    z = layer(features)
    if kind.distances:
        z = -(z[:, None] - 10 * torch.eye(len(layer.weight))).norm(dim=2)
    layers = {tap.key(): tap(features.unflatten(1, (4, 2, 2))) for tap in kind.layers}
    return Activations(z, features, layers)


def member_of(layer: Head, i: int) -> tuple[Head, Callable[[Tensor], Tensor]]:
    """The head of a member, and what it makes of features: another order and another scale."""
    if i == 0:
        return layer, lambda features: features
    generator = torch.Generator().manual_seed(i)
    width = layer.weight.shape[1]
    order, scale = (
        torch.randperm(width, generator=generator),
        0.5 + torch.rand(width, generator=generator),
    )
    weight = layer.weight + 0.3 * torch.randn(layer.weight.shape, generator=generator)
    return Head(weight[:, order] / scale, layer.bias), lambda features: features[:, order] * scale


def changed(
    acts: Activations | Sample, change: Callable[[Activations], Activations]
) -> Activations | Sample:
    """One change of one network's activations, or of those of every member."""
    if isinstance(acts, Sample):
        seen = acts.seen(lambda own: changed(own, change))
        return replace(seen, parameters=acts.parameters, logits_under=acts.logits_under)
    if acts.members:
        return Activations.of_members([change(member) for member in acts.members])
    return change(acts)


def world_of(spec: str, world: World) -> World:
    """The world with what a detector reads."""
    made = detector(spec)
    kind = Kind(
        distances=Needs.DISTANCES in made.needs,
        members=3 if Needs.MEMBERS in made.needs else 0,
        layers=taps_of(made),
        inputs=Needs.INPUTS in made.needs_to_learn,
        negatives=Needs.NEGATIVES in made.needs,
    )
    acts, ood = (
        activations(plain(part).features, world.layer, kind) for part in (world.acts, world.ood)
    )
    return replace(world, acts=acts, ood=ood, kind=kind)


def fitted(spec: str, world: World, size: int = 64) -> Detector:
    """A detector that has learned on the world, for both of its sources."""
    batches = world.batches(size)
    return detector(spec).fit(batches, calibration=batches, head=world.head)


def for_ensembles() -> list[str]:
    """Names of the catalogue's detectors for an ensemble."""
    return [name for name, method in catalogue().items() if Needs.MEMBERS in method.default().needs]


def make_world(
    n: int = 600,
    *,
    classes: int = 6,
    features: int = 16,
    spread: float = 1.0,
    relu: bool = False,
    seed: int = 0,
) -> World:
    """Classes around directions of their own; OOD around the origin and far off."""
    generator = torch.Generator().manual_seed(seed)
    means = 4 * torch.randn(classes, features, generator=generator)
    labels = torch.arange(n) % classes
    h = means[labels] + spread * torch.randn(n, features, generator=generator)
    far = 6 * torch.randn(n // 2, features, generator=generator)
    if relu:
        h, far = h.relu(), far.relu()
    centred = means - means.mean(0)
    head = Head(centred / 16, -0.05 * (centred**2).sum(1) / 16 + 0.1)
    return World(Activations(head(h), h), labels, Activations(head(far), far), head)


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; the test is skipped where there is none."""
    folder = os.environ.get("OFFMAP_DATA")
    if not folder or not (Path(folder) / "cifar10").is_dir():
        pytest.skip("OFFMAP_DATA does not point to the real data sets")
    return Path(folder)
