"""The guard keeps its error rate, and is the same after saving and in threads."""

from __future__ import annotations

import copy
import inspect
import json
import math
import pickle
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import offmap
from offmap import demo
from offmap.activations import Activations
from offmap.data import ImageSet
from offmap.detectors import Detector, ordinary, to_learn_on
from offmap.errors import ArgumentError, DataError, NotFittedError, OutputsWarning, StoreError
from offmap.guard.calibration import Calibration
from offmap.guard.certified import Certified
from offmap.guard.decide import false_discoveries, p_values
from offmap.guard.opening import Opening
from offmap.networks import DigitsCNN, Ensemble, mc_dropout


@pytest.fixture(scope="module")
def sets() -> demo.Digits:
    return demo.digits_data()


def make(
    sets: demo.Digits,
    detectors: str | Sequence[str] = "mahalanobis",
    *,
    alarm_rate: float | None = 0.05,
    per_class: bool = False,
) -> offmap.Guard:
    network = demo.shipped()
    normalization = demo.NORMALIZATION
    guard = offmap.Guard(network, detectors, normalization=normalization)
    guard.fit(sets.train)
    if alarm_rate is not None:
        guard.calibrate(sets.calibration, alarm_rate, per_class=per_class)
    return guard


@pytest.fixture(scope="module")
def guard(sets: demo.Digits) -> offmap.Guard:
    return make(sets)


def test_a_verdict_on_known_and_unknown_images(guard: offmap.Guard, sets: demo.Digits) -> None:
    known, unknown = guard(sets.test.images), guard(sets.ood["far"]["faces"].images)
    assert (known.labels == sets.test.labels).float().mean() > 0.97
    assert known.is_ood.float().mean() < 0.1
    assert unknown.is_ood.float().mean() > 0.8
    assert str(unknown).startswith("100 samples: ")


def test_a_state_dict_does_not_change_the_rule_behind_the_rate(
    guard: offmap.Guard, sets: demo.Digits
) -> None:
    """Limits came, and rule and rate stayed: decisions at no rate that anything named."""
    copied = copy.deepcopy(guard)
    copied.load_state_dict(guard.state_dict())
    images = sets.test.images
    assert copied(images).to_dict() == guard(images).to_dict()
    sure = copy.deepcopy(guard).calibrate(sets.calibration, 0.05, confidence=0.9)
    for own, other in ((copied, sure), (sure, copied)):
        before = own(images).to_dict()
        with pytest.raises(RuntimeError, match="calibrated otherwise"):
            own.load_state_dict(other.state_dict())
        assert own(images).to_dict() == before


def test_a_copy_that_is_calibrated_or_fitted_leaves_the_first_as_it_was(
    guard: offmap.Guard, sets: demo.Digits
) -> None:
    first = copy.deepcopy(guard)
    expected, read = first(sets.test.images).to_dict(), dict(first.history.read)
    twin = copy.copy(first)
    assert twin(sets.test.images).to_dict() == expected
    assert twin.network is first.network
    twin.register_forward_hook(lambda *_: pytest.fail("a hook of the other"))
    twin.calibrate(sets.calibration, 0.2)
    assert first(sets.test.images).to_dict() == expected
    twin.fit(sets.train)
    assert not twin.calibrated
    assert first.calibrated
    assert first.history.read == read
    assert first(sets.test.images).to_dict() == expected


def test_changes_of_weights_through_data_are_seen_where_the_weights_are_hashed(
    guard: offmap.Guard, sets: demo.Digits, tmp_path: Path
) -> None:
    changed = copy.deepcopy(guard)
    changed(sets.test.images)  # the copy's tensors are seen for the first time
    next(changed.network.parameters()).data.mul_(1.5)
    changed(sets.test.images)  # torch does not count it
    with pytest.raises(NotFittedError, match="weights have changed"):
        changed.check(sets.test)
    with pytest.raises(NotFittedError, match="weights have changed"):
        changed.save(tmp_path / "g")


def test_a_text_is_no_list_of_classes() -> None:
    with pytest.raises(ArgumentError, match="classes must be a list of names; seen the text"):
        offmap.Guard(demo.shipped(), "msp", classes="cat")


def test_three_ways_to_say_unknown_are_one(guard: offmap.Guard, sets: demo.Digits) -> None:
    for images in (sets.test.images, sets.calibration.images, sets.ood["near"]["nines"].images):
        verdict = guard(images)
        assert torch.equal(verdict.is_ood, verdict.scores > guard.calibration.threshold)
        assert torch.equal(verdict.is_ood, verdict.p_values <= 0.05)


def test_the_alarms_on_the_calibration_set_itself_are_exactly_its_rank(
    guard: offmap.Guard, sets: demo.Digits
) -> None:
    """Of n + 1 = 217 scores the 10 highest raise an alarm; on the set itself one fewer."""
    assert int(guard(sets.calibration.images).is_ood.sum()) == math.floor(0.05 * 217) - 1


@pytest.mark.parametrize(
    ("detectors", "rule"),
    [("vim", "plain"), (["msp", "knn", "vim"], "bonferroni")],
    ids=["one", "bonferroni"],
)
@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_the_false_alarm_rate_holds_over_random_splits(
    sets: demo.Digits, detectors: str | list[str], rule: str, rate: float
) -> None:
    """Mean over 60 splits of digits that neither network nor fit has seen; 3 standard errors."""
    guard = make(sets, detectors, alarm_rate=None)
    pool = torch.cat([sets.calibration.images, sets.test.images])
    with guard.probe as probe:
        acts = probe(pool)
    scores, labels = guard.score_activations(acts), acts.logits.argmax(1)
    n, splits, alarms = 300, 60, []
    for seed in range(splits):
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
        calibration = offmap.guard.Calibration(rule, rate)
        calibration.learn(scores[order[:n]], labels[order[:n]], 8)
        *_, is_ood = calibration(scores[order[n:]], labels[order[n:]])
        alarms.append(float(is_ood.float().mean()))
    m = len(pool) - n
    bound = 3 * math.sqrt(rate * (1 - rate) * (1 / n + 1 / m) / splits)
    mean, exact = sum(alarms) / splits, math.floor(rate * (n + 1)) / (n + 1)
    assert mean <= exact + bound
    if rule != "bonferroni":  # which is valid and not exact
        assert mean >= exact - bound


def test_the_rate_holds_within_each_answer(sets: demo.Digits) -> None:
    guard = make(sets, alarm_rate=0.1, per_class=True)
    verdict = guard(sets.calibration.images)
    for label in range(8):
        own = verdict.labels == label
        assert int(verdict.is_ood[own].sum()) == math.floor(0.1 * (int(own.sum()) + 1)) - 1
    with pytest.raises(ArgumentError, match=r"class \d: an alarm rate of 0\.01 needs at least 99"):
        guard.calibrate(sets.calibration, 0.01, per_class=True)


def test_p_values_are_their_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    calibration, scores = torch.randint(0, 9, (2, 50), generator=generator).float()
    slow = [(1 + sum(bool(c >= s) for c in calibration)) / 51 for s in scores]
    assert p_values(scores, calibration).tolist() == slow


def test_false_discoveries_are_controlled() -> None:
    """80 ID and 20 OOD a batch: the mean share of ID among those called stays below the rate."""
    generator = torch.Generator().manual_seed(0)
    shares, found = [], []
    for _ in range(200):
        calibration = torch.randn(400, generator=generator)
        batch = torch.randn(100, generator=generator)
        batch[80:] += 4
        called = false_discoveries(p_values(batch, calibration), 0.2)
        shares.append(float(called[:80].sum()) / max(int(called.sum()), 1))
        found.append(float(called[80:].float().mean()))
    assert sum(shares) / 200 < 0.2 + 3 * 0.12 / math.sqrt(200)
    assert sum(found) / 200 > 0.9


def test_eight_threads_and_one_give_equal_bits(guard: offmap.Guard, sets: demo.Digits) -> None:
    images = [sets.test.images[i : i + 16] for i in range(0, 320, 16)]
    expected = [guard(batch) for batch in images]
    wrong: list[int] = []

    def work() -> None:
        for i, batch in enumerate(images):
            found = guard(batch)
            if not (torch.equal(found.scores, expected[i].scores)
                    and torch.equal(found.p_values, expected[i].p_values)):  # fmt: skip
                wrong.append(i)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not any(m._forward_pre_hooks for m in guard.network.modules())


def test_the_networks_mode_is_as_before(guard: offmap.Guard, sets: demo.Digits) -> None:
    guard.network.train()
    first = guard(sets.test.images).scores
    assert guard.network.training
    guard.network.eval()
    assert torch.equal(guard(sets.test.images).scores, first)  # dropout was off all the same


@pytest.mark.parametrize("spec", [*ordinary(), "react(vim)"])
def test_a_callers_autocast_changes_nothing(spec: str, sets: demo.Digits) -> None:
    expected = make(sets, spec)(sets.test.images)
    with torch.autocast("cpu", torch.bfloat16):
        found = make(sets, spec)(sets.test.images)
    assert found.to_dict() == expected.to_dict()


@pytest.mark.parametrize("spec", ordinary())
def test_a_loaded_guard_gives_equal_bits(spec: str, sets: demo.Digits, tmp_path: Path) -> None:
    made = make(sets, spec)
    made.save(tmp_path)
    loaded = offmap.load(tmp_path, demo.shipped())
    images = sets.ood["near"]["eights"].images
    assert loaded(images).to_dict() == made(images).to_dict()
    assert loaded.explain() == made.explain()


@pytest.mark.parametrize(
    "detectors", [["react(vim)", "msp"], "Combine([react(vim), msp])", "temperaturescaled", "gram"]
)
def test_a_loaded_guard_of_several_gives_equal_bits(
    detectors: str | list[str], sets: demo.Digits, tmp_path: Path
) -> None:
    made = make(sets, detectors)
    made.save(tmp_path)
    images = sets.test.images
    assert offmap.load(tmp_path, demo.shipped())(images).to_dict() == made(images).to_dict()


def test_a_folder_with_weights_needs_only_the_code(
    guard: offmap.Guard, sets: demo.Digits, tmp_path: Path
) -> None:
    guard.save(tmp_path, weights=True)
    loaded = offmap.load(tmp_path, DigitsCNN(8))
    assert loaded(sets.test.images).to_dict() == guard(sets.test.images).to_dict()


def test_a_network_that_kept_weights_do_not_fit_stays_as_it_was(
    guard: offmap.Guard, tmp_path: Path
) -> None:
    guard.save(tmp_path, weights=True)
    other = DigitsCNN(5)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(StoreError, match="are of another network than the DigitsCNN"):
        offmap.load(tmp_path, other)
    assert all(torch.equal(x, before[name]) for name, x in other.state_dict().items())


def test_another_network_is_refused_unless_told(guard: offmap.Guard, tmp_path: Path) -> None:
    guard.save(tmp_path)
    other = DigitsCNN(8)
    with pytest.raises(StoreError, match="other weights"):
        offmap.load(tmp_path, other)
    assert offmap.load(tmp_path, other, strict=False).calibrated


@pytest.mark.parametrize(
    "change",
    [
        {"detectors": [{"detector": "rm"}]},
        {"detectors": "vim"},
        {"detectors": []},
        {"calibration": {"rule": "none", "alarm_rates": [0.1]}},
        {"calibration": {"rule": "plain", "alarm_rates": []}},
        {"taps": [["no such layer", "mean"]]},
        {"taps": [["conv1", "no such reduction"]]},
        {"normalization": {"mean": [0.1], "std": [1.0], "call": "x"}},
        {"classes": 7},
        {"head": "no such layer"},
        {"version": 99},
    ],
)
def test_a_hostile_record_is_refused(
    guard: offmap.Guard, tmp_path: Path, change: dict[str, object]
) -> None:
    guard.save(tmp_path)
    path = tmp_path / "guard.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError):
        offmap.load(tmp_path, demo.shipped())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alarm_rates": [1e-4]}, "a rate that was never calibrated"),
        ({"confidence": 0.9}, "limits of the ranks are not those"),
        ({"rule": "per_class"}, "are of others"),
        ({"rule": "bonferroni", "samples": 7}, "are of others"),
    ],
)
def test_a_record_that_was_edited_promises_nothing(
    guard: offmap.Guard, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    """The tensors have a hash, and the text beside them is easily changed by hand."""
    guard.save(tmp_path)
    path = tmp_path / "guard.json"
    record = json.loads(path.read_text())
    record["calibration"] |= change
    path.write_text(json.dumps(record))
    for read in (lambda: offmap.load(tmp_path, demo.shipped()), lambda: Certified.read(tmp_path)):
        with pytest.raises(StoreError, match=words):
            read()


def test_a_certificate_of_a_higher_confidence_is_not_typed_in(
    sets: demo.Digits, tmp_path: Path
) -> None:
    guard = make(sets, "energy").calibrate(sets.calibration, [0.1, 0.05], confidence=0.9)
    for each in (guard, guard.at(0.2)):
        each.save(tmp_path)
        again = offmap.load(tmp_path, demo.shipped())
        assert again.explain() == each.explain()
    guard.save(tmp_path)
    path = tmp_path / "guard.json"
    path.write_text(path.read_text().replace('"confidence": 0.9', '"confidence": 0.99'))
    with pytest.raises(StoreError, match="calibrate anew"):
        offmap.load(tmp_path, demo.shipped())


def test_files_of_a_guard_with_fewer_detectors_are_refused(
    guard: offmap.Guard, tmp_path: Path
) -> None:
    """The second would never be asked."""
    guard.save(tmp_path)
    path = tmp_path / "guard.json"
    record = json.loads(path.read_text())
    record["detectors"].append({"detector": "msp", "arguments": {}})
    path.write_text(json.dumps(record))
    with pytest.raises(StoreError, match="2 detectors, and calibration scores of 1"):
        offmap.load(tmp_path, demo.shipped())


def test_names_of_classes_may_be_numbers(sets: demo.Digits, tmp_path: Path) -> None:
    names = tuple(map(str, range(len(demo.KNOWN))))
    images, labels = sets.train.images[:200], sets.train.labels[:200]
    numbered = ImageSet("numbered", images, labels, tuple(range(len(demo.KNOWN))))
    for given, data in ((np.arange(len(demo.KNOWN)), [images]), ((), numbered)):
        guard = offmap.Guard(
            demo.shipped(), "energy", classes=given, normalization=demo.NORMALIZATION
        )
        guard.fit(data).save(tmp_path)
        assert guard.classes == offmap.load(tmp_path, demo.shipped()).classes == names


def test_what_could_not_be_read_back_is_not_written(guard: offmap.Guard, tmp_path: Path) -> None:
    guard = guard.at(0.2)
    guard.model = 7
    with pytest.raises(StoreError, match=r"Expected `str \| null`.*nothing is written"):
        guard.save(tmp_path / "guard")
    assert not (tmp_path / "guard").exists()


class WithExtraState(DigitsCNN):
    def get_extra_state(self) -> dict[str, int]:
        return {"steps": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


def test_state_that_is_no_tensor_is_not_kept(sets: demo.Digits, tmp_path: Path) -> None:
    guard = offmap.Guard(WithExtraState(8), "energy", normalization=demo.NORMALIZATION)
    guard.fit([sets.train.images[:100]])
    with pytest.raises(ArgumentError, match=r"no tensor \(_extra_state\)"):
        guard.save(tmp_path, weights=True)
    guard.save(tmp_path)
    assert offmap.load(tmp_path, guard.network).weights == guard.weights


def test_the_order_of_use(sets: demo.Digits, tmp_path: Path) -> None:
    guard = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    with pytest.raises(NotFittedError, match="fit, then calibrate"):
        guard(sets.test.images)
    with pytest.raises(NotFittedError):
        guard.calibrate(sets.calibration)
    with pytest.raises(NotFittedError, match="fit before saving"):
        guard.save(tmp_path)
    assert "not fitted" in guard.explain()
    guard.fit(sets.train)
    assert "no threshold yet" in guard.explain()


def test_two_guards_may_be_given_one_detector(sets: demo.Digits) -> None:
    shared = offmap.Mahalanobis()
    first = make(sets, [shared])
    before = first(sets.test.images).scores
    make(sets, [shared]).fit(sets.calibration)
    assert torch.equal(first(sets.test.images).scores, before)
    assert not shared.fitted


def test_names_of_other_classes_than_the_outputs(sets: demo.Digits) -> None:
    data = ImageSet("few", sets.train.images, sets.train.labels.clamp(max=1), ("low", "high"))
    guard = offmap.Guard(demo.shipped(), "msp", normalization=demo.NORMALIZATION)
    guard.fit(data).calibrate(sets.calibration, 0.05)
    assert guard.classes == ()  # the folder's names are not those of the network's eight outputs
    assert set(guard(sets.test.images).to_dict()["answer"]) <= {*map(str, range(8)), "unknown"}
    named = offmap.Guard(demo.shipped(), "msp", classes=["low", "high"])
    with pytest.raises(ArgumentError, match="2 names of classes were given, and the network has 8"):
        named.fit(data)


def test_bonferroni_is_exact_at_its_rate() -> None:
    """A p-value of 1/10 among three tests is 3/10, which is an alarm at 0.3."""
    calibration = offmap.guard.Calibration("bonferroni", 0.3)
    scores = torch.arange(9.0)[:, None].expand(9, 3)
    calibration.learn(scores, torch.zeros(9).long(), 1)
    _, p, is_ood = calibration(torch.tensor([[99.0, 0, 0], [7.5, 0, 0]]), torch.zeros(2).long())
    assert p.tolist() == [0.3, 0.6]
    assert is_ood.tolist() == [True, False]


@pytest.mark.parametrize("rate", [1.0, 1.5])
def test_bonferroni_refuses_a_rate_that_is_none(rate: float) -> None:
    calibration = offmap.guard.Calibration("bonferroni", rate)
    with pytest.raises(ArgumentError, match="alarm_rate must lie in"):
        calibration.learn(torch.randn(100, 2), torch.zeros(100).long(), 1)


def test_alarm_rates_come_as_numbers_of_any_kind_and_as_nothing_else() -> None:
    for rates in ((0.05, 0.01), [0.05, 0.01], np.array([0.05, 0.01]), torch.tensor([0.05, 0.01])):
        made = offmap.guard.Calibration("plain", rates)
        assert made.alarm_rates == pytest.approx((0.05, 0.01))
    for rate in (np.float32(0.05), np.float64(0.05), torch.tensor(0.05, dtype=torch.float64)):
        assert offmap.guard.Calibration("plain", rate).alarm_rates == (0.05,)
    for wrong in ("5%", "0.05", None, float("nan"), [0.05, "0.01"], object()):
        with pytest.raises(ArgumentError, match="alarm_rate must be a number; seen"):
            offmap.guard.Calibration("plain", wrong)


def test_the_number_of_images_that_bonferroni_needs_is_the_least() -> None:
    learn = offmap.guard.Calibration("bonferroni", 0.05).learn
    with pytest.raises(
        ArgumentError, match=r"rate of 0.05 shared by 3 detectors needs at least 59"
    ):
        learn(torch.randn(58, 3), torch.zeros(58).long(), 1)
    learn(torch.randn(59, 3), torch.zeros(59).long(), 1)


def test_memory_layout_is_kept(sets: demo.Digits, tmp_path: Path) -> None:
    guard = offmap.Guard(demo.shipped(), "msp", channels_last=False)
    guard.fit(sets.train).calibrate(sets.calibration).save(tmp_path)
    assert offmap.load(tmp_path, demo.shipped()).probe.channels_last is False


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("spec", ordinary())
def test_a_guard_on_a_gpu(spec: str, sets: demo.Digits, tmp_path: Path) -> None:
    """Spooled activations, stored guards and stored heads all find their way back to the GPU."""
    guard = offmap.Guard(demo.shipped().cuda(), spec, normalization=demo.NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration).save(tmp_path)
    loaded = offmap.load(tmp_path, demo.shipped().cuda())
    assert torch.equal(loaded(sets.test.images).scores, guard(sets.test.images).scores)


def test_a_device_that_is_not_there_is_named() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for device in ("cuda", "no such"):
        with pytest.raises(ArgumentError, match="device"):
            offmap.Guard(demo.shipped(), "msp", device=device)


def test_calibrating_on_what_it_was_fitted_on_is_refused(sets: demo.Digits) -> None:
    guard = make(sets, alarm_rate=None)
    with pytest.raises(DataError, match="fitted on the same images"):
        guard.calibrate(sets.train)
    renamed = ImageSet("other name", sets.train.images, sets.train.labels)
    with pytest.raises(DataError, match="fitted on the same images"):
        guard.calibrate(renamed)


def test_too_few_images_for_the_rate(sets: demo.Digits) -> None:
    guard = make(sets, alarm_rate=None)
    with pytest.raises(ArgumentError, match="at least 999 calibration samples; there are 216"):
        guard.calibrate(sets.calibration, 0.001)


def test_loaders_work_as_sets_do(guard: offmap.Guard, sets: demo.Digits) -> None:
    other = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    other.fit(list(sets.train.batches(64))).calibrate([x for x, _ in sets.calibration.batches(64)])
    a, b = other(sets.test.images), guard(sets.test.images)
    assert torch.allclose(a.scores, b.scores, rtol=1e-4, atol=1e-4)


def test_a_verdict_as_a_table(guard: offmap.Guard, sets: demo.Digits) -> None:
    verdict = guard(sets.ood["far"]["text"].images)[:5]
    table = verdict.to_dict()
    assert list(table) == ["label", "answer", "score", "p_value", "is_ood", "error"]
    assert len(verdict) == len(table["label"]) == 5
    for answer, label, is_ood in zip(table["answer"], table["label"], table["is_ood"], strict=True):
        assert answer == ("unknown" if is_ood else guard.classes[label])
    pandas = pytest.importorskip("pandas")
    assert isinstance(verdict.to_pandas(), pandas.DataFrame)


def test_discoveries_are_those_of_the_p_values(guard: offmap.Guard, sets: demo.Digits) -> None:
    verdict = guard(torch.cat([sets.test.images[:50], sets.ood["far"]["faces"].images]))
    called: Tensor = verdict.discoveries(0.1)
    assert torch.equal(called, false_discoveries(verdict.p_values, 0.1))
    assert called[50:].float().mean() > 0.7


def test_explanations_name_what_was_learned_and_promised(guard: offmap.Guard) -> None:
    text = guard.explain()
    for part in ("DigitsCNN", "Mahalanobis", "8 classes", "216 samples", "5.00%", "at most"):
        assert part in text


OF_MEMBERS = ["mutualinformation", "MemberMean(ViM(dim=12))"]


@pytest.mark.parametrize("spec", OF_MEMBERS)
def test_a_guard_around_an_ensemble(spec: str, sets: demo.Digits, tmp_path: Path) -> None:
    ensemble = mc_dropout(demo.shipped(), 3)
    made = offmap.Guard(ensemble, spec, normalization=demo.NORMALIZATION)
    made.fit(sets.train).calibrate(sets.calibration)
    verdict, images = made(sets.test.images), demo.NORMALIZATION(sets.test.images)
    p = torch.stack([m.eval()(images).double().softmax(1) for m in ensemble.members]).mean(0)
    assert torch.equal(verdict.labels, p.argmax(1))
    assert int(made(sets.calibration.images).is_ood.sum()) == math.floor(0.05 * 217) - 1
    made.save(tmp_path, weights=True)
    loaded = offmap.load(tmp_path, mc_dropout(DigitsCNN(8), 3, seed=5))
    assert loaded(sets.test.images).to_dict() == verdict.to_dict()
    assert loaded.explain() == made.explain()
    with pytest.raises(StoreError, match="does not describe a guard for this network"):
        offmap.load(tmp_path, Ensemble([DigitsCNN(8)]))


def test_an_interrupted_calibration_leaves_the_network_as_it_was(sets: demo.Digits) -> None:
    network = demo.shipped().train()
    guard = offmap.Guard(network, "mahalanobis", normalization=demo.NORMALIZATION)
    with pytest.raises(NotFittedError) as kept:
        guard.calibrate(sets.calibration)
    assert network.training
    assert not any(m._forward_pre_hooks for m in network.modules())
    assert kept.value.__traceback__ is not None  # as a notebook keeps it


@pytest.mark.parametrize("spec", ["auto", "temperaturescaled", "mahalanobis"])
def test_learning_that_fails_leaves_the_guard_as_it_was(spec: str, sets: demo.Digits) -> None:
    guard = make(sets, spec)
    other = guard.at(0.1)
    before, at = guard(sets.test.images), other(sets.test.images)
    few = sets.test.subset(torch.arange(12))
    with pytest.raises(ArgumentError, match="needs"):  # after the detectors have learned on it
        guard.calibrate(few, 0.05)

    def interrupted() -> Iterator[tuple[Tensor, Tensor]]:
        yield from sets.test.batches(50)
        raise KeyboardInterrupt

    if spec != "temperaturescaled":  # which reads none of it
        with pytest.raises(KeyboardInterrupt):
            guard.fit(interrupted())
    with pytest.raises(KeyboardInterrupt):
        guard.calibrate(interrupted())
    for verdict, expected in ((guard(sets.test.images), before), (other(sets.test.images), at)):
        assert torch.equal(verdict.scores, expected.scores)
        assert torch.equal(verdict.p_values, expected.p_values)


def test_a_network_that_was_trained_on_is_refused(sets: demo.Digits, tmp_path: Path) -> None:
    guard = make(sets)
    with torch.no_grad():
        list(guard.network.parameters())[-1].add_(1)
    with pytest.raises(NotFittedError, match="call fit again"):
        guard.save(tmp_path)
    with pytest.raises(NotFittedError, match="call fit again"):
        guard.calibrate(sets.calibration)
    guard.fit(sets.train).calibrate(sets.calibration).save(tmp_path)
    assert offmap.load(tmp_path, guard.network).calibrated


def test_names_are_those_of_the_last_fit(sets: demo.Digits) -> None:
    def named(prefix: str) -> ImageSet:
        names = tuple(f"{prefix}{i}" for i in range(8))
        return ImageSet("named", sets.train.images, sets.train.labels, names)

    guard = offmap.Guard(demo.shipped(), "msp", normalization=demo.NORMALIZATION)
    assert guard.fit(named("a")).classes[0] == "a0"
    assert guard.fit(named("b")).classes[0] == "b0"


def test_what_is_learned_on_does_not_give_the_threshold(sets: demo.Digits) -> None:
    """Of 216 digits those with a hash in the lowest fifth are learned on, whatever the batches."""
    guard = make(sets, "Combine([msp, knn])", alarm_rate=None)
    learned = int(to_learn_on(sets.calibration.keys(0, 216)).sum())
    thresholds = set()
    for size in (7, 100, 216):
        guard.calibrate(sets.calibration, batch_size=size)
        assert guard.calibration.scores_.shape == (1, 216 - learned)
        thresholds.add(round(float(guard.calibration.threshold), 5))
    assert len(thresholds) == 1
    with pytest.raises(ArgumentError, match="needs at least 19 calibration samples; there are 1"):
        guard.calibrate(sets.calibration.take(18))


def test_a_guard_that_waits_for_calibration_data_is_saved(
    sets: demo.Digits, tmp_path: Path
) -> None:
    waiting = make(sets, "Combine([vim, mds])", alarm_rate=None)
    assert "still has to learn on calibration data" in waiting.explain()
    waiting.save(tmp_path)
    loaded = offmap.load(tmp_path, demo.shipped()).calibrate(sets.calibration)
    images = sets.test.images
    assert loaded(images).to_dict() == waiting.calibrate(sets.calibration)(images).to_dict()


def test_the_rate_holds_for_what_learns_on_calibration_data(sets: demo.Digits) -> None:
    """Mean over 40 splits of digits that neither network nor fit has seen; 3 standard errors."""
    guard = make(sets, "Combine([msp, mds])", alarm_rate=None)
    pool = torch.cat([sets.calibration.images, sets.test.images])
    alarms, sizes = [], []
    for seed in range(40):
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))
        guard.calibrate([pool[order[:250]]], 0.1)
        alarms.append(float(guard(pool[order[250:]]).is_ood.float().mean()))
        sizes.append(guard.calibration.scores_.shape[1])
    n = sum(sizes) / len(sizes)
    bound = 3 * math.sqrt(0.09 * (1 / n + 1 / (len(pool) - 250)) / 40)
    assert sum(alarms) / 40 <= 0.1 + bound


def test_detectors_that_learn_from_no_data_need_no_fit(sets: demo.Digits) -> None:
    """A head is not data: it is found when the network runs."""
    guard = offmap.Guard(demo.shipped(), "scale(energy)", normalization=demo.NORMALIZATION)
    guard.calibrate(sets.calibration)
    assert float(guard(sets.test.images).is_ood.float().mean()) < 0.1


def test_a_detector_that_runs_the_network_again_guards_too(
    sets: demo.Digits, tmp_path: Path
) -> None:
    for spec in ("odin", "rankfeat", "perturbed(mds)"):
        guard = make(sets, spec)
        verdict = guard(sets.test.images[:50])
        guard.save(tmp_path / spec)
        loaded = offmap.load(tmp_path / spec, demo.shipped())
        assert loaded(sets.test.images[:50]).to_dict() == verdict.to_dict()
        with guard.probe as probe, pytest.raises(offmap.errors.NeedsError, match="on the inputs"):
            guard.judge(probe(sets.test.images[:5]))


def test_a_sample_without_a_finite_score_is_ood_with_a_reason(sets: demo.Digits) -> None:
    guard = make(sets, "vim")
    images = demo.NORMALIZATION(sets.test.images[:4])
    images[2] = torch.nan
    verdict = guard(images)
    assert verdict.is_ood[2]
    assert verdict.reasons == (None, None, "the network's output is not finite", None)
    assert verdict.to_dict()["score"][2] is None
    assert torch.equal(verdict.labels[:2], guard(sets.test.images[:4]).labels[:2])


@pytest.mark.parametrize("detectors", ["mahalanobis", "Combine([msp, temperaturescaled])"])
def test_samples_without_finite_outputs_count_as_the_highest_in_calibration(
    sets: demo.Digits, detectors: str
) -> None:
    """They were refused, and without them more new ones would raise an alarm than was promised."""
    images = demo.NORMALIZATION(sets.calibration.images)
    images[5::40] = torch.nan
    labelled = [
        (images[i : i + 50], sets.calibration.labels[i : i + 50]) for i in (0, 50, 100, 150)
    ]
    guard = offmap.Guard(demo.shipped(), detectors, normalization=demo.NORMALIZATION)
    guard.fit(sets.train)
    with pytest.warns(OutputsWarning, match=r"[345] of \d+ calibration samples have no finite"):
        guard.calibrate(labelled, 0.1)
    known = guard.calibration.scores_[0]
    infinite = int(known.isinf().sum())
    assert 3 <= infinite <= 5  # those that a detector would have learned on are left out
    assert guard.calibration.threshold == float(known[-math.floor(0.1 * (len(known) + 1))])
    verdict = guard(images[5:6])
    assert (bool(verdict.is_ood), float(verdict.p_values)) == (
        True,
        (1 + infinite) / (1 + len(known)),
    )


class Fails(Detector):
    """Gives no finite score to one sample in so many, told by its logits."""

    def __init__(self, one_in: int) -> None:
        super().__init__()
        self.one_in = one_in

    def forward(self, acts: Activations) -> Tensor:
        energy = -acts.logits.logsumexp(1)
        return energy.masked_fill((energy * 1e4).long() % self.one_in == 0, torch.nan)


def test_of_a_detector_that_fails_on_some_samples_p_values_are_as_in_calibration(
    sets: demo.Digits,
) -> None:
    guard = offmap.Guard(demo.shipped(), [Fails(40), "msp"], normalization=demo.NORMALIZATION)
    guard.fit(sets.train)
    with pytest.warns(OutputsWarning, match="of 216 calibration samples have no finite score"):
        guard.calibrate(sets.calibration, 0.2)
    with guard.probe as probe:
        s, known = (
            guard.score_activations(probe(of.images)).numpy()
            for of in (sets.test, sets.calibration)
        )
    n, failed = len(known), ~np.isfinite(s[:, 0])
    assert failed.sum() > 3
    assert (~np.isfinite(known[:, 0])).sum() > 1
    s, known = (np.where(np.isfinite(x), x, np.inf) for x in (s, known))
    ranks = 1 + (known[None] >= s[:, None]).sum(1).min(1)
    verdict = guard(sets.test.images)
    np.testing.assert_array_equal(verdict.p_values.numpy(), np.minimum(1, 2 * ranks / (n + 1)))
    assert verdict.is_ood.numpy()[failed].all()
    assert verdict.reasons is not None
    assert [reason is not None for reason in verdict.reasons] == failed.tolist()
    assert [score is None for score in verdict.to_dict()["score"]] == failed.tolist()
    guard.control(sets.calibration, 0.2, 0.9)
    accepted = guard(sets.test.images).accepted.numpy()
    assert not accepted[failed].any()
    assert accepted[~failed].mean() > 0.9


def test_a_rate_of_numpy_can_be_saved() -> None:
    calibration = Calibration.__new__(Calibration)
    inspect.unwrap(Calibration.__init__)(calibration, "plain", np.float32(0.05))
    assert json.loads(json.dumps(calibration.record()))["alarm_rates"] == [np.float32(0.05)]


@pytest.mark.parametrize("members", [1, 2])
def test_a_guard_of_normalised_floats_refuses_uint8(
    sets: demo.Digits, tmp_path: Path, members: int
) -> None:
    def floats(part: ImageSet) -> list[tuple[Tensor, Tensor]]:
        return [(demo.NORMALIZATION(x), y) for x, y in part.batches(256)]

    network = demo.shipped()
    whole = network if members == 1 else Ensemble([network, network])
    spec = "msp" if members == 1 else "memberMean(msp)"
    guard = offmap.Guard(whole, spec).fit(floats(sets.train)).calibrate(floats(sets.calibration))
    guard.save(tmp_path)
    for each in (guard, offmap.load(tmp_path, whole)):
        each(demo.NORMALIZATION(sets.test.images))
        with pytest.raises(DataError, match="first given normalised floats"):
            each(sets.test.images)


def test_a_copy_is_a_guard_of_its_own(guard: offmap.Guard, sets: demo.Digits) -> None:
    expected = guard(sets.test.images)
    with guard.probe:
        twin = copy.deepcopy(guard)
    assert torch.equal(twin(sets.test.images).p_values, expected.p_values)
    with torch.no_grad():
        list(twin.network.parameters())[-1].add_(1)
    assert torch.equal(guard(sets.test.images).scores, expected.scores)
    twin.fit(sets.train).calibrate(sets.calibration)
    assert torch.equal(guard(sets.test.images).p_values, expected.p_values)


def test_a_copy_holds_nothing_of_a_device_that_was_left(
    guard: offmap.Guard, sets: demo.Digits
) -> None:
    """What is kept for each device would ask for that device wherever a guard is sent to."""
    before = len(pickle.dumps(guard.calibration)), len(pickle.dumps(demo.NORMALIZATION))
    verdict = guard(sets.test.images)
    assert (len(pickle.dumps(guard.calibration)), len(pickle.dumps(demo.NORMALIZATION))) == before
    again = pickle.loads(pickle.dumps(guard))
    assert not vars(again.probe.normalization).get("_placed")
    assert again.calibration._places is None
    assert torch.equal(again(sets.test.images).p_values, verdict.p_values)
    assert again.probe.normalization == demo.NORMALIZATION


def test_a_guard_of_the_library_opens_itself_and_others_ask_for_their_network(
    tmp_path: Path,
) -> None:
    images = torch.randint(0, 256, (200, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    batches = [images.byte()]
    guard = offmap.Guard(demo.shipped(), "msp", normalization=demo.NORMALIZATION)
    guard.fit(batches).calibrate([images.flip(2).byte()])
    guard.save(tmp_path / "python", weights=True)
    with pytest.raises(ArgumentError, match="network beside its folder: this guard was made from"):
        offmap.load(tmp_path / "python")
    guard.model = f"digits_cnn(classes={len(demo.KNOWN)})"
    guard.save(tmp_path / "own", weights=True)
    again = offmap.load(tmp_path / "own")
    assert torch.equal(again(batches[0]).scores, guard(batches[0]).scores)


@pytest.mark.parametrize("network", [None, nn.Linear(3, 2)])
def test_an_address_is_no_folder_of_a_guard(network: nn.Module | None) -> None:
    with pytest.raises(ArgumentError, match=r"^a guard is a folder of this machine: copy s3://b/g"):
        offmap.load("s3://b/g", network)


def test_a_text_is_no_list_of_detectors_to_open_a_guard_with() -> None:
    with pytest.raises(ArgumentError, match=r"detectors must be a list of names; seen the text 'm"):
        Opening(detectors="mine.py:Name")


def test_a_guard_opens_itself_with_as_many_classes_as_its_checkpoint(tmp_path: Path) -> None:
    """``--network digits_cnn --weights FILE`` takes the classes of the file: so does the guard."""
    torch.manual_seed(0)
    save_file(DigitsCNN(5).state_dict(), tmp_path / "weights.safetensors")
    network = offmap.networks.build("digits_cnn", weights=tmp_path / "weights.safetensors")
    guard = offmap.Guard(network, "msp", normalization=demo.NORMALIZATION)
    images = torch.randint(0, 256, (60, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    guard.fit([images]).calibrate([images.flip(2)])
    guard.model = "digits_cnn"
    guard.save(tmp_path, weights=True)
    assert torch.equal(offmap.load(tmp_path)(images).scores, guard(images).scores)
    # Of a record that asks for more memory than there is, nothing is made.
    path = tmp_path / "guard.json"
    huge = '"model": "digits_cnn(classes=1000000000000)"'
    path.write_text(path.read_text().replace('"model": "digits_cnn"', huge))
    with pytest.raises(StoreError, match="does not fit DigitsCNN"):
        offmap.load(tmp_path)


def test_what_was_learned_follows_a_network_that_is_moved(
    sets: demo.Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device "meta" stands for one that a loaded network is moved to, as by network.cuda()."""
    guard = make(sets)
    other = guard.at(0.1)  # shares the detectors
    with guard.probe as probe:
        acts = probe(sets.test.images[:3])
    before = guard.judge(acts)
    there = acts.to(torch.device("meta"))
    assert torch.equal(guard.judge(acts).scores, before.scores)
    monkeypatch.setattr(type(guard.probe), "home", torch.device("meta"))
    for each in (guard, other):
        assert each._beside(there) is there
        learned = [*each.detectors.buffers(), *each.calibration.buffers()]
        assert {x.device.type for x in learned} == {"meta"}
    assert guard._beside(acts).device.type == "meta"  # from elsewhere, such as a file
