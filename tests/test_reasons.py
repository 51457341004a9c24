"""Reasons say what would have been said, where a score lies, and what made it."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import offmap
from offmap import demo, plots
from offmap.errors import ArgumentError, DataError, NonFiniteError, NotFittedError, StoreError
from offmap.guard import Calibration, Guard, Verdict, explained, nearest, occlusion
from offmap.guard.files import COLUMNS, score_files
from offmap.guard.reasons import _standing

NAMES = tuple(f"digit {i}" for i in range(8))


@pytest.fixture(scope="module")
def sets() -> demo.Digits:
    return demo.digits_data()


def make(sets: demo.Digits, detectors: object, *, per_class: bool = False) -> offmap.Guard:
    guard = offmap.Guard(
        demo.shipped(),
        detectors,  # type: ignore[arg-type]
        classes=NAMES,
        normalization=demo.NORMALIZATION,
    )
    guard.fit(sets.train)
    return guard.calibrate(sets.calibration, 0.1 if per_class else 0.05, per_class=per_class)


def acts_of(guard: offmap.Guard, images: torch.Tensor) -> offmap.Activations:
    with guard.probe as probe, torch.no_grad():
        return probe(images)


def test_a_reason_says_the_class_the_place_of_the_score_and_the_nearest_class(
    sets: demo.Digits,
) -> None:
    guard = make(sets, "mahalanobis")
    image = sets.test.images[3]
    acts = acts_of(guard, image[None])
    p, label = acts.logits.double().softmax(1).max(1)
    (detector,) = guard.each()
    near, classes = detector.distances(acts).sqrt()[0].topk(2, largest=False)  # type: ignore[operator]
    score = float(guard(image).scores[0])
    share = float((guard.calibration.scores_[0] < score).double().mean())
    assert guard.explain_sample(image) == (
        f"known: said {NAMES[int(label)]} with confidence {float(p):.1%}; "
        f"score {score:.4g} above {share:.1%} of 216 calibration scores; "
        f"nearest class {NAMES[int(classes[0])]} at {float(near[0]):.4g}, "
        f"then {NAMES[int(classes[1])]} at {float(near[1]):.4g}"
    )


def test_no_reason_is_given_for_a_network_that_was_trained_on(sets: demo.Digits) -> None:
    guard = make(sets, "energy")
    with torch.no_grad():
        next(guard.network.parameters()).add_(0.1)
    with pytest.raises(NotFittedError, match="call fit again"):
        guard.explain_sample(sets.test.images[0])


def test_what_is_far_is_above_all(sets: demo.Digits) -> None:
    guard = make(sets, "mahalanobis")
    verdict, reasons = explained(guard, 30 * demo.NORMALIZATION(sets.test.images[:20]))
    far = int(verdict.scores.argmax())
    assert "above all of 216 calibration scores" in reasons[far]


def test_above_all_but_one_is_not_above_100_percent(sets: demo.Digits) -> None:
    guard = make(sets, "energy")
    scores = torch.arange(10_000.0)
    guard._calibration = calibration = Calibration("plain", 0.05)
    calibration.learn(scores[:, None], torch.zeros(10_000).long(), 8)
    verdict = guard(sets.test.images[:1])
    (words,) = _standing(guard, 0, torch.tensor([9998.5]), verdict, name=False)
    assert words.endswith("above 99.9% of 10,000 calibration scores")


def test_of_vim_the_residual_stands_against_the_energy(sets: demo.Digits) -> None:
    guard = make(sets, "vim")
    faces = sets.ood["far"]["faces"].images[:20]
    verdict, reasons = explained(guard, faces)
    assert verdict.to_dict() == guard(faces).to_dict()
    for reason, score in zip(reasons, verdict.scores.tolist(), strict=True):
        found = re.search(r"residual (\S+) as a logit, against (\S+) of all classes", reason)
        assert found is not None
        assert float(found[1]) - float(found[2]) == pytest.approx(score, abs=0.01)
    worst = int(verdict.scores.argmax())
    assert guard.explain_sample(faces[worst]).startswith("unknown: said digit ")


def test_the_nearest_training_samples_are_named(sets: demo.Digits) -> None:
    guard = make(sets, offmap.KNN(k=5))
    sample = sets.train.images[17]
    reason = guard.explain_sample(sample)
    assert f"nearest training samples {sets.train.keys(17, 18)[0]}, " in reason
    assert float(reason.partition("(from ")[2].rstrip(")")) < 1e-6
    bare = offmap.Guard(demo.shipped(), offmap.KNN(k=5), normalization=demo.NORMALIZATION)
    images = demo.NORMALIZATION(sets.train.images)
    bare.fit([images[:300]]).calibrate([demo.NORMALIZATION(sets.calibration.images)])
    assert "nearest training sample" in bare.explain_sample(images[0])


@pytest.mark.parametrize("how", ["softplus", "mean", "fisher"])
def test_the_part_that_made_a_score_stands_first(sets: demo.Digits, how: str) -> None:
    guard = make(sets, f"Combine([energy, mahalanobis], how='{how}')")
    images = sets.ood["far"]["faces"].images[:5]
    acts = acts_of(guard, images)
    (combine,) = guard.each()
    parts = torch.stack([s.double() for s in combine.part_scores(acts)], 1)  # type: ignore[operator]
    if how in ("softplus", "mean"):
        far = (parts - combine.scale_[:, 0]) / combine.scale_[:, 1]
    else:
        below = [(s < x[:, None]).sum(1) for s, x in zip(combine.scale_, parts.T, strict=True)]
        far = 100 * torch.stack(below, 1).double() / combine.scale_.shape[1]
    for reason, row in zip(explained(guard, images)[1], far.tolist(), strict=True):
        pairs = sorted(zip(row, ("Energy", "Mahalanobis"), strict=True), key=lambda x: -x[0])
        assert ", ".join(f"{name} {x:+.1f}" for x, name in pairs) in reason
        assert ("nearest class" in reason) == (pairs[0][1] == "Mahalanobis")


def test_of_auto_the_member_that_made_a_score_stands_first(sets: demo.Digits) -> None:
    guard = make(sets, "auto")
    images = sets.ood["far"]["faces"].images[:3]
    (auto,) = guard.each()
    parts = auto.part_scores(acts_of(guard, images))  # type: ignore[operator]
    far = (torch.stack([s.double() for s in parts], 1) - auto.scale_[:, 0]) / auto.scale_[:, 1]
    names = ("Energy", "CADRef", "ViM", "MahalanobisPP", "RAS", "MultiLayerMahalanobis")
    for reason, row in zip(explained(guard, images)[1], far.tolist(), strict=True):
        pairs = sorted(zip(row, names, strict=True), key=lambda x: -x[0])
        assert ", ".join(f"{name} {x:+.1f}" for x, name in pairs) in reason


def test_a_verdict_tells_why_each_sample_is_judged_so(sets: demo.Digits) -> None:
    guard = make(sets, "mahalanobis")
    images = sets.test.images[:4]
    verdict, reasons = explained(guard, images)
    assert [verdict.explain(i) for i in range(4)] == [
        f"{'unknown' if ood else 'known'}: {reason}"
        for ood, reason in zip(verdict.is_ood, reasons, strict=True)
    ]
    assert verdict.explain(-1) == verdict[3:].explain(0) == guard.explain_sample(images[3])
    joined = offmap.Verdict.joined([verdict[:2], verdict[2:]])
    assert joined.explain(3) == verdict.explain(3)
    plain = guard(images)
    said, score, p = NAMES[int(plain.labels[0])], float(plain.scores[0]), float(plain.p_values[0])
    assert plain.explain(0).endswith(f": said {said}; score {score:.4g}, p-value {p:.3g}")
    assert offmap.Verdict.joined([verdict, plain]).words is None
    with pytest.raises(IndexError):
        plain.explain(4)
    assert guard(torch.full((1, 1, 8, 8), torch.nan)).explain(0) == (
        "unknown: the network's output is not finite"
    )


def test_of_joined_classes_the_scores_of_the_group_are_counted(sets: demo.Digits) -> None:
    guard = make(sets, "mahalanobis")
    guard.calibrate(sets.calibration, 0.04, per_class=True, pool=True)
    calibration, verdict = guard.calibration, guard(sets.test.images[:40])
    assert calibration.groups_ is not None
    _, reasons = explained(guard, sets.test.images[:40])
    for reason, score, label in zip(reasons, verdict.scores, verdict.labels.tolist(), strict=True):
        group = int(calibration.groups_[label])
        others = calibration.scores_[0][calibration.labels_ == group]
        words = f"of {len(others)} calibration scores of {NAMES[label]}"
        if int((calibration.groups_ == group).sum()) > 1:
            words += " and the classes joined with it"
        below = int((others < score).sum())
        share = "all" if below == len(others) else f"{math.floor(1000 * below / len(others)) / 10}%"
        assert f" above {share} {words};" in reason


def test_the_confidence_is_that_of_the_network_that_answers(sets: demo.Digits) -> None:
    torch.manual_seed(0)
    other = offmap.networks.DigitsCNN(8).eval()
    cascade = offmap.Cascade(filter=demo.shipped(), classifier=other)
    guard = offmap.Guard(cascade, "energy", classes=NAMES, normalization=demo.NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration)
    images = demo.NORMALIZATION(sets.test.images[:5])
    with torch.no_grad():
        p, label = other(images).double().softmax(1).max(1)
    for reason, share, i in zip(explained(guard, images)[1], p.tolist(), label, strict=True):
        assert reason.startswith(f"said {NAMES[int(i)]} with confidence {share:.1%};")


def test_the_nearest_training_samples_are_found_as_images(
    sets: demo.Digits, tmp_path: Path
) -> None:
    """By brute force, of the features that the network gives; some samples were left out."""
    train = sets.train.subset(range(5, 405))
    guard = offmap.Guard(demo.shipped(), ["msp", "KNN(k=5)"], normalization=demo.NORMALIZATION)
    guard.fit(train)
    images = sets.test.images[:4]
    near = nearest(guard, images, train, count=3)
    known, own = (
        torch.nn.functional.normalize(acts_of(guard, x).features.double())
        for x in (train.images, images)
    )
    distances, rows = torch.cdist(own, known).topk(3, largest=False)
    for i, found in enumerate(near):
        assert [each.distance for each in found] == pytest.approx(distances[i].tolist(), abs=1e-6)
        for each, row in zip(found, rows[i].tolist(), strict=True):
            assert each.key == train.keys(row, row + 1)[0]
            assert torch.equal(each.image, train.images[row])
    (alone,) = nearest(guard, images[0], train, count=2)
    assert [each.key for each in alone] == [each.key for each in near[0][:2]]
    figure = plots.neighbours(images, near, ["a", "b", "c", "d"])
    plots.save(figure, tmp_path / "near.png")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:2] == ["a", f"{near[0][0].key}\nat {near[0][0].distance:.3g}"]
    with pytest.raises(DataError, match="has no sample"):
        nearest(guard, images, sets.train.subset(range(5)))
    with pytest.raises(DataError, match="a list does not say what its samples are called"):
        nearest(guard, images, [(images, None)])
    with pytest.raises(ArgumentError, match="make it with KNN"):
        nearest(make(sets, "msp"), images, train)


def test_occlusion_is_the_fall_of_the_score(sets: demo.Digits) -> None:
    """With one square there is one number; of several, a pixel has the mean of those over it."""
    guard = make(sets, "mahalanobis")
    image = sets.ood["far"]["faces"].images[0]
    own = guard(image).scores.double()

    def fall(y: int, x: int, side: int) -> float:
        covered = image.clone()
        covered[:, y : y + side, x : x + side] = image.double().mean().round().to(torch.uint8)
        return float(own - guard(covered).scores.double())

    whole = occlusion(guard, image, side=8)
    assert whole.shape == (8, 8)
    assert whole.flatten().tolist() == pytest.approx([fall(0, 0, 8)] * 64, rel=1e-4)
    four = occlusion(guard, image, side=4, step=4)
    assert float(four[0, 0]) == pytest.approx(fall(0, 0, 4), rel=1e-4)
    assert float(four[7, 0]) == pytest.approx(fall(4, 0, 4), rel=1e-4)
    crossing = occlusion(guard, image[None], side=6, step=2, batch_size=3)
    every = [fall(y, x, 6) for y in (0, 2) for x in (0, 2)]
    assert float(crossing[4, 4]) == pytest.approx(sum(every) / 4, rel=1e-4)
    assert float(crossing[0, 7]) == pytest.approx(every[1], rel=1e-4)
    with pytest.raises(ArgumentError, match="takes one image"):
        occlusion(guard, sets.test.images[:2])
    with pytest.raises(
        ArgumentError, match="step must be a whole number of at least 1 and at most 2"
    ):
        occlusion(guard, image, step=3)
    with pytest.raises(ArgumentError, match="batch_size must be a whole number of at least 1"):
        occlusion(guard, image, batch_size=0)


def test_an_image_without_a_finite_score_where_it_is_covered_has_no_map(
    sets: demo.Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = make(sets, "mahalanobis")
    image = sets.test.images[0]
    own, judge = guard(image), type(guard).forward

    def forward(self: Guard, inputs: Any) -> Verdict:
        verdict = judge(self, inputs)
        return own if len(inputs) == 1 else replace(verdict, scores=verdict.scores / 0)

    monkeypatch.setattr(type(guard), "forward", forward)
    with pytest.raises(NonFiniteError, match="with a square covered"):
        occlusion(guard, image)


def test_inside_of_a_shaper_the_shaped_features_are_read(sets: demo.Digits) -> None:
    guard = make(sets, "ReAct(Mahalanobis(), quantile=0.95)")
    image = sets.test.images[:1]
    (react,) = guard.each()
    inner = react.part(0)  # type: ignore[operator]
    near = inner.distances(react.see(0, acts_of(guard, image))).sqrt().min()  # type: ignore[operator]
    assert f"at {float(near):.4g}, then" in guard.explain_sample(image)


def test_several_detectors_and_classes_are_told_apart(sets: demo.Digits) -> None:
    two = make(sets, ["msp", "mahalanobis"]).explain_sample(sets.test.images[0])
    assert re.search(r"MSP score \S+ above .* Mahalanobis score \S+ above", two)
    guard = make(sets, "msp", per_class=True)
    label = int(guard(sets.test.images[0]).labels)
    count = int(guard.calibration.counts_[label])
    reason = guard.explain_sample(sets.test.images[0])
    assert f"of {count} calibration scores of {NAMES[label]}" in reason


def test_a_sample_without_a_score_has_its_own_reason(sets: demo.Digits) -> None:
    guard = make(sets, "mahalanobis")
    images = demo.NORMALIZATION(sets.test.images[:2])
    images[1] = torch.nan
    _, (good, bad) = explained(guard, images)
    assert good.startswith("said digit")
    assert bad == "the network's output is not finite"
    _, only = explained(guard, images[1:])
    assert only == (bad,)
    with pytest.raises(ArgumentError, match="takes one sample, and there are 2"):
        guard.explain_sample(images)


def test_what_moves_its_inputs_is_explained_too(sets: demo.Digits) -> None:
    guard = make(sets, "odin")
    assert "of 216 calibration scores" in guard.explain_sample(sets.test.images[0])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_score_adds_a_column(sets: demo.Digits, suffix: str, tmp_path: Path) -> None:
    guard, out = make(sets, "mahalanobis"), tmp_path / f"v.{suffix}"
    (tmp_path / "in").mkdir()
    Image.fromarray(sets.test.images[0, 0].numpy()).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"none")
    score_files(guard, [str(tmp_path / "in")], out, explain=True)
    if suffix == "csv":
        rows = list(csv.DictReader(out.read_text().splitlines()))
    else:
        rows = pq.read_table(out).to_pylist()
    assert list(rows[0]) == [*COLUMNS, "reason"]
    assert rows[0]["reason"] == explained(guard, sets.test.images[:1])[1][0]
    assert not rows[1]["reason"]


def test_a_run_with_reasons_does_not_go_on_without(sets: demo.Digits, tmp_path: Path) -> None:
    guard = make(sets, "mahalanobis")
    for i in range(3):
        Image.fromarray(sets.test.images[i, 0].numpy()).save(tmp_path / f"{i}.png")
    inputs, out, forward = [str(tmp_path / "*.png")], tmp_path / "v.csv", type(guard).forward
    calls = 0

    def broken(self: offmap.Guard, x: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("killed")
        return forward(self, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(guard), "forward", broken)
        with pytest.raises(RuntimeError, match="killed"):
            score_files(guard, inputs, out, batch_size=1)
    with pytest.raises(StoreError, match="unfinished run of another guard or other inputs"):
        score_files(guard, inputs, out, explain=True)
