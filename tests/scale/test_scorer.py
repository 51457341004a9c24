"""The scorer: the guard's own verdicts, whatever engine calls it, and a row for every item."""

from __future__ import annotations

import inspect
import os
import pickle
import shutil
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import offmap
from offmap import demo
from offmap.errors import ArgumentError, NotFittedError, StoreError
from offmap.guard import Opening
from offmap.networks import DigitsCNN
from offmap.scale import Scorer
from offmap.scale import scorer as module

VERDICT = ["label", "score", "p", "is_ood", "reason"]


def agree(columns: dict[str, Any], verdict: offmap.Verdict) -> None:
    """To the bit."""
    assert np.array_equal(columns["label"], verdict.labels.numpy())
    assert np.array_equal(columns["score"], verdict.scores.double().numpy())
    assert np.array_equal(columns["p"], verdict.p_values.numpy())
    assert np.array_equal(columns["is_ood"], verdict.is_ood.numpy())


@pytest.fixture
def images(sets: demo.Digits) -> torch.Tensor:
    return torch.cat([sets.test.images[:12], sets.ood["far"]["faces"].images[:4]])


def forms(images: torch.Tensor, folder: Path) -> dict[str, list[Any]]:
    """The same pictures as everything that a batch may hold."""
    pictures = [Image.fromarray(image[0].numpy()) for image in images]
    files = [folder / f"{i}.png" for i in range(len(images))]
    for picture, file in zip(pictures, files, strict=True):
        picture.save(file)
        fsspec.filesystem("memory").pipe(f"/{file.name}", file.read_bytes())
    return {
        "bytes": [file.read_bytes() for file in files],
        "paths": [str(file) for file in files],
        "addresses": [f"memory://{file.name}" for file in files],
        "undecoded": [{"bytes": None, "path": str(file)} for file in files],
        "pictures": pictures,
        "grey": [image[0].numpy() for image in images],
        "last": [image.permute(1, 2, 0).numpy() for image in images],
        "colour": [np.stack([image[0].numpy()] * 3, axis=2) for image in images],
        "first": list(images.numpy()),
        "array": images.numpy(),  # type: ignore[dict-item]
        "lists": images[:, 0].tolist(),
    }


def test_verdicts_are_the_guards_for_images_of_every_form(
    guard: offmap.Guard, folder: Path, images: torch.Tensor, tmp_path: Path
) -> None:
    scorer, verdict = Scorer(folder), guard(images)
    for name, values in forms(images, tmp_path).items():
        found = scorer({"image": values})
        assert list(found) == ["image", *VERDICT], name
        agree(found, verdict)
        assert found["reason"].tolist() == [""] * 16
    assert verdict.is_ood.any()
    assert not verdict.is_ood.all()


@pytest.mark.parametrize("name", ["allow", "detectors", "keep"])
def test_a_text_is_no_list_of_names(name: str, tmp_path: Path) -> None:
    """Its letters would be the names, and the guard refused with another reason."""
    (tmp_path / "guard.json").write_text("{}")
    with pytest.raises(
        ArgumentError, match=f"{name} must be a list of names; seen the text 'timm:'"
    ):
        Scorer(tmp_path, **{name: "timm:"})  # type: ignore[arg-type]


def test_normalised_floats_pass_as_they_are(
    guard: offmap.Guard, folder: Path, images: torch.Tensor
) -> None:
    floats = demo.NORMALIZATION(images)
    agree(Scorer(folder)({"x": floats.numpy()}), guard(floats))


@pytest.mark.parametrize("first", [0, 1])
def test_pixels_and_floats_in_one_batch_have_the_verdicts_of_their_own_kind(
    guard: offmap.Guard, folder: Path, images: torch.Tensor, first: int
) -> None:
    """Whichever stands first: one of the other kind cost all that came behind it their verdicts."""
    kinds = (images.numpy(), demo.NORMALIZATION(images).numpy())
    values = [kinds[(i + first) % 2][i] for i in range(16)]
    found = Scorer(folder)({"image": values})
    for kind, x in enumerate((images, demo.NORMALIZATION(images))):
        rows = [i for i in range(16) if (i + first) % 2 == kind]
        agree({name: found[name][rows] for name in VERDICT}, guard(x[rows]))


def test_a_broken_item_gets_a_row_and_costs_no_other_its_own(
    guard: offmap.Guard, folder: Path, images: torch.Tensor
) -> None:
    values: list[Any] = [image[0].numpy() for image in images]
    broken = {1: b"no picture", 3: None, 5: "absent.png", 7: np.zeros((2, 2, 2, 2)), 9: object()}
    for i, value in broken.items():
        values[i] = value
    good = [i for i in range(16) if i not in broken]
    found = Scorer(folder)({"image": values, "id": np.arange(16)})
    agree({name: found[name][good] for name in VERDICT}, guard(images[good]))
    bad = list(broken)
    assert found["id"].tolist() == list(range(16))
    assert found["label"][bad].tolist() == [-1] * 5
    assert found["is_ood"][bad].all()
    assert np.isnan(found["score"][bad]).all()
    assert np.isnan(found["p"][bad]).all()
    starts = ["UnidentifiedImageError", "ValueError: no image is stored here"]
    starts += ["FileNotFoundError", "float64 of shape (2, 2, 2, 2)", "object of shape ()"]
    for i, start in zip(bad, starts, strict=True):
        assert found["reason"][i].startswith(start)


def test_a_batch_of_nothing_readable_or_of_nothing_has_its_rows(folder: Path) -> None:
    scorer = Scorer(folder)
    assert scorer({"path": ["a.png", "b.png"]})["is_ood"].tolist() == [True, True]
    assert {name: len(values) for name, values in scorer({"path": []}).items()} == dict.fromkeys(
        ["path", *VERDICT], 0
    )


def test_columns_that_would_be_hidden_are_refused(folder: Path, images: torch.Tensor) -> None:
    batch = {"image": images.numpy(), "label": np.zeros(16)}
    with pytest.raises(ArgumentError, match=r"has columns label, as the verdict does: give prefix"):
        Scorer(folder)(batch)
    named = Scorer(folder, prefix="guard_", keep=["label"])(batch)
    assert list(named) == ["label", *(f"guard_{name}" for name in VERDICT)]
    with pytest.raises(
        ArgumentError, match="the batch has columns a, b, and none of images, image"
    ):
        Scorer(folder)({"a": [], "b": []})
    with pytest.raises(ArgumentError, match="none of photo: give column="):
        Scorer(folder, column="photo")(batch)


def test_a_column_to_keep_that_is_not_there_is_refused(folder: Path) -> None:
    batch = {"image": np.zeros((2, 1, 8, 8), np.uint8), "path": np.array(["a", "b"])}
    assert "path" in Scorer(folder, keep=["path"])(batch)
    with pytest.raises(ArgumentError, match="no column paths to keep: the batch has image, path"):
        Scorer(folder, keep=["paths"])(batch)


def test_only_the_path_travels_and_a_process_loads_once(
    folder: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(module, "_opened", {})
    plain = Opening.open

    def counting(opening: Opening, folder: str) -> offmap.Guard:
        loaded.append(folder)
        return plain(opening, folder)

    monkeypatch.setattr(Opening, "open", counting)
    scorer = Scorer(folder)
    scorer({"image": images.numpy()})
    text = pickle.dumps(scorer)
    assert len(text) < 2000
    agree(pickle.loads(text)({"image": images.numpy()}), scorer.guard(images))
    assert loaded == [str(folder)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
def test_a_fork_while_another_thread_opens_a_guard_can_open_one() -> None:
    """Its copy of the lock was held for ever."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with module._opening():
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if not child:
        os._exit(0 if module._opening().acquire(timeout=10) else 1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done.set()
    thread.join()
    assert code == 0


def test_a_guard_that_was_replaced_is_refused(
    guard: offmap.Guard, folder: Path, tmp_path: Path, images: torch.Tensor
) -> None:
    shutil.copytree(folder, tmp_path / "guard")
    scorer = Scorer(tmp_path / "guard")
    guard.at(0.2).save(tmp_path / "guard", weights=True)
    with pytest.raises(StoreError, match="is another than when this scorer was made"):
        scorer({"image": images.numpy()})
    with pytest.raises(StoreError, match="make it with `offmap fit`"):
        Scorer(tmp_path / "absent")


def test_a_guard_without_a_threshold_is_refused_before_anything_is_read(
    sets: demo.Digits, tmp_path: Path
) -> None:
    guard = offmap.Guard(demo.shipped(), "msp", normalization=demo.NORMALIZATION).fit(sets.train)
    guard.model = "digits_cnn"
    guard.save(tmp_path, weights=True)
    with pytest.raises(NotFittedError, match="no threshold yet"):
        Scorer(tmp_path)({"path": ["absent.png"]})


def test_a_network_of_a_file_and_its_weights(
    guard: offmap.Guard, tmp_path: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from offmap.networks import DigitsCNN\n\n\ndef network():\n    return DigitsCNN(8)\n"
    )
    monkeypatch.chdir(tmp_path)
    guard.save("guard", weights=True)
    scorer = pickle.loads(pickle.dumps(Scorer("guard", model="mine.py:network", alarm_rate=0.2)))
    monkeypatch.chdir("/")  # where a worker may be
    agree(scorer({"image": images.numpy()}), guard.at(0.2)(images))


def test_features_and_rows_that_are_none(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(200, 6)
    guard = offmap.Guard(torch.nn.Identity(), "KNN(k=3)", outputs="features")
    guard.fit([x[:100]]).calibrate([x[100:]])
    (tmp_path / "mine.py").write_text("import torch\nnetwork = torch.nn.Identity\n")
    guard.save(tmp_path / "guard", weights=True)
    scorer = Scorer(tmp_path / "guard", model=f"{tmp_path}/mine.py:network", keep=[])
    agree(scorer({"features": x[:9].numpy()}), guard(x[:9]))
    rows: list[Any] = [row.numpy() for row in x[:4]]
    rows[1], rows[2] = rows[1][:5], "text"
    found = scorer({"embedding": rows})
    assert list(found) == VERDICT
    assert found["reason"][[1, 2]].tolist() == [
        "features of (5,), not (6,)",
        "columns that are no numbers: <U4",
    ]
    agree({name: found[name][[0, 3]] for name in VERDICT}, guard(x[[0, 3]]))
    whole = torch.arange(12).reshape(2, 6)
    for given in (whole.numpy(), whole.tolist()):
        agree(scorer({"features": given}), guard(whole.float()))


def test_threads_are_set_for_the_process_that_calls_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, int]] = []
    monkeypatch.setattr(module, "_opened", {})
    monkeypatch.setattr(torch, "set_num_threads", lambda n: said.append(("torch", n)))
    monkeypatch.setattr(module, "limit_decoding", lambda n: said.append(("decoding", n)))
    assert Scorer(folder, threads=3).guard.calibrated
    assert said == [("torch", 3), ("decoding", 3)]


def test_the_library_datasets_maps_it(
    guard: offmap.Guard, folder: Path, images: torch.Tensor, photos: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    paths = sorted(map(str, photos.glob("*.png")))
    table = datasets.Dataset.from_dict({"path": paths})
    mapped = table.map(Scorer(folder, keep=["path"]), batched=True, batch_size=17)
    assert mapped["path"][:] == paths
    broken = [i for i, reason in enumerate(mapped["reason"]) if reason]
    assert [Path(paths[i]).name for i in broken] == ["15b.png"]
    decoded = datasets.Dataset.from_dict({"image": paths[:8]}).cast_column(
        "image", datasets.Image()
    )
    scores = decoded.map(Scorer(folder, keep=[]), batched=True)["score"][:]
    assert scores == mapped["score"][:8] == guard(_read(paths[:8])).scores.tolist()


def _read(paths: list[str]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(Image.open(path)))[None] for path in paths])


def test_a_loader_of_torch(guard: offmap.Guard, folder: Path, photos: Path) -> None:
    """As ``collate_fn`` in its processes, or on its batches."""
    paths = sorted(map(str, photos.glob("0*.png")))
    scorer = Scorer(folder, threads=1)
    plain = DataLoader(paths, batch_size=5, collate_fn=lambda batch: {"path": batch})
    rows = [scorer(batch) for batch in plain]
    for found, start in zip(rows, (0, 5), strict=True):
        agree(found, guard(_read(paths[start : start + 5])))
    forked: Any = {"num_workers": 1, "multiprocessing_context": "fork"}
    if sys.platform == "linux":
        inside = DataLoader(paths, batch_size=5, collate_fn=_Collated(scorer), **forked)
        for found, row in zip(inside, rows, strict=True):
            assert np.array_equal(found["score"], row["score"])


class _Collated:
    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def __call__(self, batch: list[str]) -> dict[str, Any]:
        return self.scorer({"path": batch})


def test_a_data_frame_is_a_batch_too(
    guard: offmap.Guard, folder: Path, images: torch.Tensor, tmp_path: Path
) -> None:
    """What a pandas function of Spark is given, and gives."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"bytes": forms(images, tmp_path)["bytes"]}, index=range(5, 21))
    found = pandas.DataFrame(Scorer(folder, keep=[])(frame))
    agree({name: found[name].to_numpy() for name in VERDICT}, guard(images))


def test_a_network_without_weights_is_asked_for(tmp_path: Path, guard: offmap.Guard) -> None:
    assert isinstance(guard.network, DigitsCNN)
    guard.save(tmp_path)
    with pytest.raises(ArgumentError, match="give weights=: this guard was saved without"):
        Scorer(tmp_path)({"path": []})


def test_a_scorer_opens_a_guard_in_every_way_that_there_is() -> None:
    """`offmap score --engine ray` hands on all of them; one was not taken."""
    ways = {field.name for field in fields(Opening)}
    assert ways <= set(inspect.signature(Scorer).parameters)
