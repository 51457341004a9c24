"""Systems put together of several networks, and the arithmetic of what they gain."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import offmap
from offmap.cli import main
from offmap.errors import ArgumentError
from offmap.evaluation import of_scores
from offmap.evaluation.cascade_tables import systems_text
from offmap.evaluation.cascades import Filter, Systems
from offmap.evaluation.exchange import Exchange, Swap
from offmap.evaluation.shared import on_shared_samples
from offmap.metrics import Outcomes

N = 200


def network(seed: int, *, right: float, keys: range = range(N)) -> offmap.Results:
    """Of one network: labels 0, and its own noise on scores that all networks share."""
    rng, shared = np.random.default_rng(seed), np.random.default_rng(0)
    of = {"id": shared.normal(size=N), "far": shared.normal(1.5, size=N)}
    noisy = {name: x + rng.normal(size=N) for name, x in of.items()}
    rows = np.array(keys)
    found = of_scores(
        {"auto": {name: x[rows] for name, x in noisy.items()}},
        predictions={"id": (rng.random(N) > right)[rows].astype(int)},
        labels={"id": np.zeros(len(rows), int)},
    )
    return replace(found, keys={name: [str(row) for row in rows] for name in of})


@pytest.fixture
def two() -> dict[str, offmap.Results]:
    return {"a": network(1, right=0.8), "b": network(2, right=0.9)}


@pytest.fixture
def systems(two: dict[str, offmap.Results]) -> Systems:
    return Systems(two, np.zeros(N), "far", 0)


def test_a_joint_filter_is_the_mean_of_scores_in_deviations_of_what_is_held_out(
    two: dict[str, offmap.Results], systems: Systems
) -> None:
    together = Filter(("a", "b"), "auto")
    assert systems.joint_filters == [together]
    scores = [r.scores["auto"] for r in two.values()]
    held = [of["id"][systems.held.id].astype(float) for of in scores]
    expected = np.mean(
        [
            (of["far"][systems.rest.ood] - own.mean()) / own.std()
            for of, own in zip(scores, held, strict=True)
        ],
        axis=0,
    )
    assert systems.scores(together, systems.rest)[1] == pytest.approx(expected)
    assert str(together) == "a + b auto"


def test_several_that_accept_together_are_held_against_each_alone(systems: Systems) -> None:
    test = systems.test_joint()
    assert test is not None
    assert list(test.alone) == ["a alone", "b alone"]
    assert test.system.classifier == "b"  # right more often
    for name, outcomes, d in zip("ab", test.outcomes[1:], test.differences, strict=True):
        assert test.alone[f"{name} alone"] == systems.best_alone(name)
        assert d.difference == test.outcomes[0].selection.f1 - outcomes.selection.f1
        assert d.low <= d.difference <= d.high


def test_three_vote_and_the_better_networks_settle_a_tie() -> None:
    networks = {
        name: network(i, right=r)
        for i, (name, r) in enumerate(zip("abc", (0.7, 0.9, 0.8), strict=True))
    }
    for i, r in enumerate(networks.values()):  # where wrong, two of two classes
        wrong = r.predictions["id"] > 0
        r.predictions["id"][wrong] = (np.arange(N)[wrong] + i) % 2 + 1
    systems = Systems(networks, np.zeros(N), "far", 0)
    ballots = np.stack([r.predictions["id"] for r in networks.values()], axis=1)
    held = [(ballots[systems.held.id, i] == 0).mean() for i in range(3)]
    expected = []
    for votes in ballots.tolist():
        first = max(range(3), key=lambda i: (votes.count(votes[i]), held[i]))
        expected.append(votes[first] == 0)
    assert systems.correct["vote of a + b + c"].tolist() == expected
    assert sum(len(set(votes)) == 3 for votes in ballots.tolist()) >= 1  # there are ties
    test = systems.test_joint()
    assert test is not None
    chosen = [systems.tuned(f, "vote of a + b + c").f1 for f in systems.joint_filters[-1:]]
    assert test.system.f1 >= max(chosen)


def test_the_formula_gives_the_difference_in_f1(systems: Systems) -> None:
    for test in (systems.test(), systems.test_joint()):
        assert test is not None
        for other in test.outcomes[1:]:
            found = Exchange.of(test.outcomes[0], other).difference
            expected = test.outcomes[0].selection.f1 - other.selection.f1
            assert found == pytest.approx(expected, abs=1e-15)


def test_counts_and_the_price_of_an_error() -> None:
    a = Outcomes.of([0, 0, 0, 9], [True, True, False, True], [0, 9], threshold=1)
    b = Outcomes.of([0, 9, 9, 9], [True, True, False, True], [9, 9], threshold=1)
    found = Exchange.of(a, b)
    # 2 right of 4 accepted against 1 of 1, among 4: F1 is 4/8 and 2/5.
    assert (found.right, found.wrong, found.ood, found.f1, found.size) == (1, 1, 1, 0.4, 8)
    assert found.price == pytest.approx(4)
    assert found.difference == pytest.approx(0.1)
    assert "(1.6000 * 1 - 0.4000 * 2) / 8 = +10.00" in str(found)


def test_other_answers_behind_one_filter_gain_what_it_accepts_of_what_only_they_know() -> None:
    own, other = np.array([1, 1, 0, 0, 1], bool), np.array([0, 1, 1, 1, 0], bool)
    scores, ood = [0, 0, 0, 9, 9], [0, 9]
    with_own, with_other = (Outcomes.of(scores, x, ood, threshold=1) for x in (own, other))
    swap = Swap.of(own, other, with_own)
    assert (swap.gained, swap.lost, swap.size) == ((2, 1), (2, 1), 9)
    better = np.array([0, 1, 1, 1, 1], bool)
    swap = Swap.of(own, better, with_own)
    assert (swap.gained, swap.lost) == ((2, 1), (1, 1))
    assert swap.difference == with_other.selection.f1 - with_own.selection.f1 == 0


def test_several_sets_are_one(two: dict[str, offmap.Results]) -> None:
    for r in two.values():
        r.scores["auto"]["near"] = r.scores["auto"]["far"][: N // 2]  # type: ignore[index]
    both = Systems(two, np.zeros(N), ["far", "near"], 0)
    assert both.ood == "far + near"
    assert len(both.rest.id) == len(both.rest.ood) == 160
    assert both.rest.ood.max() >= N


def test_only_samples_that_all_saw_count_in_one_order() -> None:
    given = {
        "a": network(1, right=0.8, keys=range(150)),
        "b": network(2, right=0.9, keys=range(199, 99, -1)),
    }
    shared = on_shared_samples(given, ["far"])
    expected = [str(row) for row in range(100, 150)]
    assert all(r.keys["id"] == r.keys["far"] == expected for r in shared.values())
    whole = network(2, right=0.9)
    np.testing.assert_array_equal(
        shared["b"].scores["auto"]["far"], whole.scores["auto"]["far"][100:150]
    )
    np.testing.assert_array_equal(shared["b"].predictions["id"], whole.predictions["id"][100:150])


def test_what_cannot_be_put_together_is_said(two: dict[str, offmap.Results]) -> None:
    with pytest.raises(ArgumentError, match=r"b has no keys.*'near'.*OOD sets.*are: far"):
        on_shared_samples({"b": two["b"]}, ["near"])
    apart = {
        "a": network(1, right=0.8, keys=range(9)),
        "b": network(2, right=0.9, keys=range(9, 20)),
    }
    with pytest.raises(ArgumentError, match="a, b share no sample of 'id'"):
        on_shared_samples(apart, ["far"])
    other = replace(two["b"], labels={"id": np.ones(N, np.int32)})
    with pytest.raises(ArgumentError, match="different labels"):
        on_shared_samples({"a": two["a"], "b": other}, ["far"])
    with pytest.raises(ArgumentError, match="two networks or more"):
        Systems({"a": two["a"]}, np.zeros(N), "far", 0)
    many = {f"n{i}": network(i, right=0.8) for i in range(9)}
    with pytest.raises(ArgumentError, match="name at most 8; seen 9, n0, n1"):
        Systems(many, np.zeros(N), "far", 0)
    del many["n8"]
    assert len(Systems(many, np.zeros(N), "far", 0).joint_filters) == 2**8 - 9


def test_the_command_prints_what_was_tested(
    two: dict[str, offmap.Results], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "200")
    for name, r in two.items():
        r.save(tmp_path / name)
    folders = " ".join(f"{name}={tmp_path / name}" for name in two)
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(f"compare {folders} --detectors auto --systems far --seed 3"))
    assert not ended.value.code
    assert capsys.readouterr().out.strip() == systems_text(two, np.zeros(N), ["far"], 3)
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(f"compare {folders} --detectors knn --systems far"))
    assert "no 'knn' among auto" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(shlex.split(f"compare {folders} --detectors auto vmi --systems far"))
    assert "no 'vmi' among auto" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(shlex.split(f"compare {folders} --systems far --mean"))
    assert "leave out --mean" in capsys.readouterr().err
