"""Guards and sets as MAITE's protocols have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import offmap
from offmap import demo
from offmap.adapters import maite as adapter
from offmap.data import ImageSet, load
from offmap.errors import ArgumentError, DataError, LabelError, NotFittedError

protocols = pytest.importorskip("maite.protocols.image_classification")


@pytest.fixture(scope="module")
def sets() -> demo.Digits:
    return demo.digits_data()


@pytest.fixture(scope="module")
def guard(sets: demo.Digits) -> offmap.Guard:
    made = offmap.Guard(
        demo.shipped(), "mahalanobis", classes=[*"abcdefgh"], normalization=demo.NORMALIZATION
    )
    fit, held = (adapter.batches(adapter.Dataset(s)) for s in (sets.train, sets.calibration))
    return made.fit(fit).calibrate(held, 0.1)


def test_both_have_the_form_of_the_protocols(guard: offmap.Guard, sets: demo.Digits) -> None:
    model, dataset = adapter.Model(guard), adapter.Dataset(sets.test)
    assert isinstance(model, protocols.Model)
    assert isinstance(dataset, protocols.Dataset)
    assert set(model.metadata) == set(dataset.metadata) == {"id", "index2label"}
    assert model.metadata["index2label"] == dict(enumerate([*"abcdefgh", "unknown"]))
    assert dataset.metadata["index2label"] == dict(enumerate("01234567"))


def test_a_set_says_what_ours_says(sets: demo.Digits) -> None:
    dataset = adapter.Dataset(sets.test)
    image, target, said = dataset[-1]
    assert (image == sets.test.images[-1].numpy()).all()
    assert target.tolist() == np.eye(8)[int(sets.test.labels[-1])].tolist()
    assert said == {"id": sets.test.keys(0, len(sets.test))[-1]}
    assert len(list(dataset)) == len(sets.test)  # an IndexError ends an iteration
    bare = adapter.Dataset(ImageSet("bare", sets.test.images))
    assert bare[0][1].tolist() == [0]


def test_the_largest_of_a_vector_is_the_answer_of_the_guard(
    guard: offmap.Guard, sets: demo.Digits
) -> None:
    images = torch.cat([sets.test.images[:30], sets.ood["far"]["faces"].images[:30]])
    verdict, vectors = guard(images), np.stack(adapter.Model(guard)(list(images.numpy())))
    answers = [[*"abcdefgh", "unknown"][i] for i in vectors.argmax(1)]
    assert answers == verdict.to_dict()["answer"]
    assert "unknown" in answers[30:]
    assert set(answers[:30]) - {"unknown"}
    assert np.allclose(vectors.sum(1), 1)
    known = vectors[~verdict.is_ood.numpy()]
    assert (known[:, -1] == 0).all()
    with guard.probe as probe:
        logits = probe.logits(images)
    of_network = logits.softmax(1)[~verdict.is_ood].numpy()
    assert np.allclose(known[:, :-1], of_network, atol=1e-6)
    assert adapter.Model(guard)([]) == []


def test_a_guard_over_features_knows_or_does_not() -> None:
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    guard = offmap.Guard(torch.nn.Identity(), "mahalanobis", outputs="features")
    guard.fit([(x[:200], torch.arange(200) % 2)]).calibrate(x[200:], 0.1)
    vectors = adapter.Model(guard)([x[0].numpy(), x[0].numpy() + 50])
    assert [v.tolist() for v in vectors] == [[1, 0], [0, 1]]


def test_a_network_with_detectors_that_run_it_again(sets: demo.Digits) -> None:
    guard = offmap.Guard(demo.shipped(), "odin", normalization=demo.NORMALIZATION)
    guard.fit(sets.train.take(50, 0)).calibrate(sets.calibration.take(60, 0), 0.1)
    images = sets.test.images[:4]
    vectors = adapter.Model(guard)(list(images))
    assert [int(v.argmax() == 8) for v in vectors] == guard(images).is_ood.int().tolist()


def test_the_answers_of_a_cascade_are_those_of_its_classifier(sets: demo.Digits) -> None:
    torch.manual_seed(0)
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8))
    cascade = offmap.Cascade(filter=demo.shipped(), classifier=other)
    guard = offmap.Guard(cascade, "energy", normalization=demo.NORMALIZATION)
    guard.fit(sets.train.take(50, 0)).calibrate(sets.calibration.take(60, 0), 0.1)
    images = sets.test.images[:20]
    verdict, vectors = guard(images), np.stack(adapter.Model(guard)(list(images)))
    expected = torch.where(verdict.is_ood, 8, verdict.labels)
    assert vectors.argmax(1).tolist() == expected.tolist()


@pytest.mark.parametrize("target", [[0.5, 0.5], [0, 0], [[1, 0]], []])
def test_targets_that_name_no_class_are_refused(target: Any) -> None:
    dataset = [(np.zeros((1, 8, 8), np.uint8), np.array(target), {"id": 0})]
    with pytest.raises(LabelError, match="one class stands out"):
        next(adapter.batches(dataset))


def test_a_guard_without_a_threshold_is_refused() -> None:
    with pytest.raises(NotFittedError, match="call fit, then calibrate"):
        adapter.Model(offmap.Guard(demo.shipped()))


def test_a_model_of_a_network_that_was_trained_on_is_refused(sets: demo.Digits) -> None:
    network = demo.shipped()
    guard = offmap.Guard(network, "energy", normalization=demo.NORMALIZATION).fit(sets.train)
    model = adapter.Model(guard.calibrate(sets.calibration))
    with torch.no_grad():
        next(network.parameters()).add_(0.1)
    with pytest.raises(NotFittedError, match="weights have changed"):
        model(list(sets.test.images[:2].numpy()))


def test_a_set_that_is_not_in_memory_is_refused_at_once(tmp_path: Path, sets: demo.Digits) -> None:
    np.save(tmp_path / "digits.npy", sets.test.images[:4, 0].numpy())
    streamed = load(tmp_path / "digits.npy", keep_in_memory_bytes=0)
    with pytest.raises(ArgumentError, match=r"digits.npy are not in memory: give its hold\(\)"):
        adapter.Dataset(streamed)  # type: ignore[arg-type]
    assert len(adapter.Dataset(streamed.hold())) == 4  # type: ignore[union-attr]


def test_a_set_without_samples_is_told() -> None:
    with pytest.raises(DataError, match="no samples"):
        offmap.Guard(demo.shipped(), "msp").fit(adapter.batches([]))
