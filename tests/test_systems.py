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
from offmap.evaluation.subsets import at_ratio, only_correct
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


def pairs(of_id: np.ndarray, ood: np.ndarray) -> float:
    """The share of pairs in the right order; no ties here."""
    return float((ood[None] > of_id[:, None]).mean())


def test_all_figures_of_a_row_are_of_the_same_samples() -> None:
    """At a ratio of 4, of 60 OOD samples beside 100 of ID, 25 remain."""
    rng = np.random.default_rng(0)
    scores = {"id": rng.normal(size=100), "far": rng.normal(1, size=60),
              "calibration": rng.normal(size=99)}  # fmt: skip
    labels, predictions = np.zeros(100, int), rng.integers(0, 2, 100)
    right = predictions == labels
    whole = of_scores({"a": scores}, predictions={"id": predictions}, labels={"id": labels})
    threshold = whole.rows[0].threshold

    row = only_correct(whole, right).rows[0]
    kept = scores["id"][right]
    assert (row.n_id, row.n_ood, row.threshold) == (right.sum(), 60, threshold)
    assert row.id_alarm == (kept > threshold).mean()
    assert row.ood_caught == whole.rows[0].ood_caught
    assert row.oscr == pytest.approx(pairs(kept, scores["far"]))  # the AUROC, as all are right
    assert (row.aurc, row.augrc) == (0, 0)

    row = at_ratio(whole, 4, seed=3).rows[0]
    ids, ood = (np.random.default_rng(3).permutation(n) for n in (100, 60))
    ids, ood = ids[:100], ood[:25]
    assert (row.n_id, row.n_ood) == (100, 25)
    assert row.ood_caught == (scores["far"][ood] > threshold).mean()
    good = scores["id"][ids][right[ids]]
    assert row.oscr == pytest.approx(pairs(good, scores["far"][ood]) * len(good) / 100)
    assert row.ood_caught != whole.rows[0].ood_caught

    few = at_ratio(whole, 8, seed=3).rows[0]  # 12 and 96
    chosen = scores["id"][ids[:96]]
    assert (few.n_id, few.id_alarm) == (96, (chosen > threshold).mean())
    order = np.argsort(chosen)
    wrong = np.cumsum(~right[ids[:96]][order])
    assert few.aurc == pytest.approx((wrong / np.arange(1, 97)).mean())
