"""Auto: the mean of its members on their own scales, and what it does without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import offmap
from offmap.activations import Activations
from offmap.detectors import Needs, detector, load, nodes, save
from offmap.detectors._engine import Fitting
from offmap.detectors.combined.auto import Auto, bounded
from offmap.detectors.logits.energy import Energy
from offmap.errors import DegenerateError, NeedsError
from tests.conftest import World, fitted, make_world

NAMES = {"auto"}


@pytest.fixture(scope="module")
def made(world: World) -> Auto:
    result = fitted("auto", world)
    assert isinstance(result, Auto)
    return result


def by_hand(made: Auto, world: World, used: list[int]) -> np.ndarray:
    """Every score alone, standardised by that of the same calibration data, in float64."""
    terms = []
    for part in (made.members[i] for i in used):
        alone = detector(part.record()).fit(
            world.batches(), calibration=world.batches(), head=world.head
        )
        known = alone(world.acts).double().numpy()
        t = (alone(world.ood).double().numpy() - known.mean()) / known.std()
        terms.append(np.logaddexp(0, bounded_by_hand(t)))
    return np.mean(terms, axis=0)


def bounded_by_hand(t: np.ndarray) -> np.ndarray:
    return np.array([x if x <= 3 else 4 - 1 / (x - 2) for x in t])


def test_one_member_alone_adds_four_deviations_at_most() -> None:
    t = torch.tensor([[-50.0, 0, 2.5, 3, 4, 27, 1e6, torch.inf]], dtype=torch.float64)
    expected = [-50, 0, 2.5, 3, 3.5, 4 - 1 / 25, 4 - 1 / (1e6 - 2), 4]
    assert torch.allclose(bounded(t)[0], torch.tensor(expected, dtype=torch.float64), rtol=1e-15)
    places = t[0, 2:6].clone().requires_grad_()
    bounded(places[None]).sum().backward()
    assert torch.allclose(places.grad, torch.tensor([1, 1, 0.25, 1 / 625], dtype=torch.float64))


class Louder(Energy):
    """A user's, which cannot be made without saying how much."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, acts: Activations) -> torch.Tensor:
        return self.factor * super().forward(acts)


def test_the_summary_names_members_that_have_no_default_arguments(world: World) -> None:
    made = Auto([Louder(2.0), Energy()]).fit(world.batches(), calibration=world.batches())
    assert made.summary() == "mean bounded softplus of Louder(factor=2.0), Energy"


def test_of_one_member_the_order_is_its_own(world: World) -> None:
    made = Auto([detector("energy")]).fit(world.batches(), calibration=world.batches())
    alone = detector("energy")(world.ood)
    order = alone.argsort()
    assert (made(world.ood)[order].diff() >= 0).all()
    assert len(made(world.ood).unique()) == len(alone.unique())


def test_the_score_is_the_mean_softplus_of_the_standardised_members(
    made: Auto, world: World
) -> None:
    alone = detector("energy")(world.acts).double(), detector("energy")(world.ood).double()
    assert ((alone[1] - alone[0].mean()) / alone[0].std() > 3).any()  # some are bounded
    assert made.used == [0, 1, 2, 3, 4]
    expected = by_hand(made, world, made.used)
    assert np.allclose(made(world.ood).numpy(), expected, rtol=1e-9)


def layered(world: World) -> tuple[list[tuple[Activations, torch.Tensor]], Activations]:
    """The world with two layers: a mix of its features, and its features with noise."""
    generator = torch.Generator().manual_seed(3)
    mix = torch.randn(world.acts.features.shape[1], 5, generator=generator)

    def see(acts: Activations) -> Activations:
        noise = torch.randn(acts.features.shape, generator=generator)
        layers = (acts.features @ mix, acts.features + noise)
        return acts.replace(layers={f":stages|mean|{i}": x for i, x in enumerate(layers)})

    return [(see(acts), y) for acts, y in world.batches()], see(world.ood)


def test_where_there_are_layers_they_are_read_too(world: World) -> None:
    batches, ood = layered(world)
    made = offmap.detectors.Auto().fit(batches, calibration=batches, head=world.head)
    assert made.used == [0, 1, 2, 3, 4, 5]
    assert not made.left_out
    alone = detector("multilayermahalanobis").fit(batches, calibration=batches)
    known = torch.cat([alone(acts) for acts, _ in batches]).double().numpy()
    t = (alone(ood).double().numpy() - known.mean()) / known.std()
    others = by_hand(made, world, range(5))
    expected = (5 * others + np.logaddexp(0, bounded_by_hand(t))) / 6
    assert np.allclose(made(ood).numpy(), expected, rtol=1e-9)


def test_the_shares_add_up_to_the_score(made: Auto, world: World) -> None:
    shares = made.shares(world.ood)
    assert shares.shape == (len(world.ood), 5)
    assert torch.equal(shares.sum(1), made(world.ood))


def test_without_a_head_the_members_that_need_one_are_left_out(world: World) -> None:
    made = offmap.detectors.Auto().fit(world.batches(), calibration=world.batches())
    without = [repr(m) for m in made.members if any(Needs.HEAD in type(n).needs for n in nodes(m))]
    assert list(made.left_out) == [*without, repr(made.members[5])]
    assert without
    assert all("last linear layer" in made.left_out[name] for name in without)
    assert np.allclose(made(world.ood).numpy(), by_hand(made, world, made.used), rtol=1e-9)
    assert f"without {without[0]}: " in made.summary()


def test_features_alone_are_enough(world: World) -> None:
    batches = [(Activations(features=acts.features), y) for acts, y in world.batches()]
    made = offmap.detectors.Auto().fit(batches, calibration=batches)
    assert [repr(made.members[i]) for i in made.used] == ["MahalanobisPP(ridge=1e-06)"]
    assert made.score(Activations(features=world.ood.features)).isfinite().all()


def test_logits_alone_are_enough(world: World) -> None:
    batches = [(Activations(acts.logits), y) for acts, y in world.batches()]
    made = offmap.detectors.Auto().fit(batches, calibration=batches)
    assert [repr(made.members[i]) for i in made.used] == ["Energy(temperature=1.0)"]
    acts = Activations(world.ood.logits)
    order = made.score(acts).argsort()
    assert torch.equal(order, offmap.Energy().score(acts).argsort())


@pytest.mark.parametrize("around", ["Combine([auto, msp])", "Perturbed(auto, magnitude=0)"])
def test_what_stands_around_it_needs_no_more_than_it_does_without(
    around: str, world: World, tmp_path: Path
) -> None:
    """Logits alone are enough for what is made of Auto, before and after a file; then all again."""
    batches = [(Activations(acts.logits), y) for acts, y in world.batches()]
    made = detector(around).fit(batches, calibration=batches)
    assert Needs.FEATURES not in made.needs
    few = made.score(Activations(world.ood.logits))
    save(made, tmp_path)
    assert torch.equal(load(tmp_path).score(Activations(world.ood.logits)), few)
    made.fit(world.batches(), calibration=world.batches(), head=world.head)
    assert Needs.FEATURES in made.needs
    with pytest.raises(NeedsError, match="reads features, and these activations have none"):
        made.score(Activations(world.ood.logits))


def test_without_labels_the_members_that_read_them_are_left_out(world: World) -> None:
    batches = [(acts, None) for acts, _ in world.batches()]
    made = offmap.detectors.Auto().fit(batches, calibration=batches, head=world.head)
    assert "MahalanobisPP(ridge=1e-06)" in made.left_out
    assert made.score(world.ood).isfinite().all()


def test_few_samples_leave_out_what_cannot_be_solved(world: World) -> None:
    few = make_world(12, features=64)
    made = offmap.detectors.Auto().fit(few.batches(), calibration=few.batches(), head=few.head)
    assert "12 training samples, 64 features" in made.left_out["ViM(dim=None)"]
    assert made.score(few.ood).isfinite().all()


def test_a_fit_begins_with_all_members_again(world: World) -> None:
    made = offmap.detectors.Auto().fit(world.batches(), calibration=world.batches())
    assert made.left_out
    made.fit(world.batches(), calibration=world.batches(), head=world.head)
    assert list(made.left_out) == [repr(made.members[5])]  # which reads layers, and there are none
    assert torch.equal(made(world.ood), fitted("auto", world)(world.ood))


def test_calibration_data_of_one_sample_leave_the_members_for_others(
    made: Auto, world: World
) -> None:
    one = [(world.acts[:1].replace(keys=None), world.labels[:1])] * 30
    fitting = Fitting([other := Auto()], world.head)
    fitting.begin()
    fitting.learn("train", world.batches())
    with pytest.raises(DegenerateError, match="gives all 30 calibration samples one score: give"):
        fitting.learn("calibration", one)
    assert not other.fitted
    Fitting([other], world.head).learn("calibration", world.batches())
    assert np.allclose(other.score(world.ood), by_hand(made, world, made.used), rtol=1e-4)


def test_what_was_left_out_is_kept_in_a_file(world: World, tmp_path: Path) -> None:
    made = offmap.detectors.Auto().fit(world.batches(), calibration=world.batches())
    save(made, tmp_path)
    loaded = load(tmp_path)
    assert isinstance(loaded, Auto)
    assert (repr(loaded), loaded.left_out) == (repr(made), made.left_out)
    assert torch.equal(loaded(world.ood), made(world.ood))


def test_with_no_member_left_the_reasons_are_told(world: World) -> None:
    batches = [(Activations(features=acts.features), None) for acts, _ in world.batches()]
    with pytest.raises(NeedsError, match=r"none of its parts can be used here: Energy"):
        offmap.detectors.Auto([offmap.Energy(), offmap.MSP()]).fit(batches, calibration=batches)


def test_one_member_that_cannot_be_used_does_not_stop_others_of_a_run(world: World) -> None:
    """What is left out of Auto is refused where it stands alone."""
    with pytest.raises(NeedsError):
        offmap.detectors.ViM().fit(world.batches())
