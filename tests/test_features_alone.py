"""Features without logits: encoders, and arrays that are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

import offmap
from offmap.data import load_features
from offmap.errors import ArgumentError, DataError, DataNotFoundError, NeedsError


def features(seed: int, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(200) % 3
    return shift + 3 * torch.eye(3, 6)[y] + torch.randn(200, 6, generator=generator), y


@pytest.fixture(scope="module")
def guard() -> offmap.Guard:
    guard = offmap.Guard(nn.Identity(), "mahalanobis", outputs="features")
    return guard.fit(features(0)).calibrate(features(1))


def test_a_guard_over_features_says_known_or_unknown(guard: offmap.Guard) -> None:
    near, far = guard(features(2)[0]), guard(features(3, shift=9.0)[0])
    assert bool(far.is_ood.all())
    assert 0 < int(near.is_ood.sum()) < 30  # 5 % of 200, give or take
    assert {answer.answer for answer in near} == {"known", "unknown"}
    assert near.to_dict()["label"] == [None] * 200
    acts = offmap.Activations(features=features(2)[0])
    assert torch.equal(guard.judge(acts).scores, near.scores)


def test_it_is_kept_and_exported(guard: offmap.Guard, tmp_path: Path) -> None:
    guard.save(tmp_path / "guard")
    x = features(2)[0]
    loaded = offmap.load(tmp_path / "guard", nn.Identity())
    assert torch.equal(loaded(x).scores, guard(x).scores)
    offmap.export(guard, tmp_path / "guard.pt2", example=x)  # which checks its answers


def test_an_encoder_has_its_vectors_as_features() -> None:
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    x = torch.rand(60, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    probe = offmap.Probe(encoder, outputs="features")
    assert torch.allclose(probe(x).features, encoder(x).mean((2, 3)), atol=1e-6)


def test_detectors_that_read_logits_are_refused_in_words() -> None:
    for name in ("msp", "vim"):
        with pytest.raises(NeedsError, match="reads logits, and these activations have none"):
            offmap.Guard(nn.Identity(), name, outputs="features").fit(features(0))
    guard = offmap.Guard(nn.Identity(), "knn", outputs="features").fit(features(0))
    with pytest.raises(ArgumentError, match="per_class needs predictions"):
        guard.calibrate(features(1), per_class=True)


def test_an_evaluation_over_features_leaves_out_what_reads_logits() -> None:
    results = offmap.evaluate(
        nn.Identity(),
        outputs="features",
        train=features(0),
        id_test=features(1),
        ood={"far": features(3, shift=9.0)},
    )
    assert results.get("mahalanobis", "far") == 1.0
    assert {"knn", "mahalanobis", "classgaussian"} <= set(results.detectors)
    assert {"msp", "energy", "vim"} <= set(results.left_out)
    assert results.predictions == {}


def test_features_with_a_linear_head_are_a_network_of_one_layer() -> None:
    head = nn.Linear(6, 3)
    guard = offmap.Guard(head, "vim").fit(features(0)).calibrate(features(1))
    with torch.no_grad():
        assert torch.equal(guard(features(2)[0]).labels, head(features(2)[0]).argmax(1))


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
def test_files_of_features(kind: str, tmp_path: Path) -> None:
    x, y = (part.numpy() for part in features(0))
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, x)
    elif kind == "npz":
        np.savez(path, embeddings=x, y=y)
    else:
        pq.write_table(pa.table({"features": list(x), "label": y}), path)
    features_, labels = load_features(path)
    assert np.array_equal(features_, x)
    assert labels is None if kind == "npy" else np.array_equal(labels, y)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float32())])
def test_lists_of_either_kind_are_features(kind: pa.DataType, tmp_path: Path) -> None:
    # Tables of other libraries than pandas come with large lists.
    x = features(0)[0].numpy()
    pq.write_table(pa.table({"features": pa.array(list(x), kind)}), tmp_path / "a.parquet")
    assert np.array_equal(load_features(tmp_path / "a.parquet")[0], x)


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_what_else_a_file_holds_is_not_read(kind: str, tmp_path: Path) -> None:
    # Tokens of several lengths, or objects, beside good features made the file unreadable.
    x, path = np.eye(2, dtype=np.float32), tmp_path / f"a.{kind}"
    if kind == "npz":
        np.savez(path, x=x, y=np.arange(2), names=np.array([None, "a"], object))
    else:
        columns = {"x": list(x), "y": np.arange(2), "tokens": [[1], [1, 2]]}
        pq.write_table(pa.table(columns), path)
    features_, labels = load_features(path)
    assert np.array_equal(features_, x)
    assert labels is not None
    assert labels.tolist() == [0, 1]


def test_files_that_hold_no_features_say_what_they_hold(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", weights=np.eye(3))
    np.savez(tmp_path / "b.npz", features=np.ones((2, 3, 4)))
    np.savez(tmp_path / "c.npz", features=np.ones((2, 3)), labels=np.ones(5))
    pq.write_table(pa.table({"features": [[1.0], [1.0, 2.0]]}), tmp_path / "d.parquet")
    empty = pa.array([None, None], pa.list_(pa.float32()))
    pq.write_table(pa.table({"features": empty}), tmp_path / "j.parquet")
    np.savez(tmp_path / "f.npz", features=np.ones((2, 3)), labels=np.array([None, "a"], object))
    for name in ("g.npy", "h.npz", "i.parquet"):
        (tmp_path / name).write_bytes(b"none of these")
    for name, words in (
        *(
            (name, "cannot be read as features")
            for name in ("f.npz", "g.npy", "h.npz", "i.parquet")
        ),
        ("a.npz", "holds weights: name the features one of features"),
        ("b.npz", r"seen float64 of shape \(2, 3, 4\)"),
        ("c.npz", r"2 rows of features, and \(5,\) labels"),
        ("d.parquet", "must have one length"),
        ("j.parquet", "must have one length, above 0"),
    ):
        with pytest.raises(DataError, match=words):
            load_features(tmp_path / name)
    with pytest.raises(DataNotFoundError):
        load_features(tmp_path / "e.npz")
