"""Whatever a loader gives: the same guard, or words that say what to give."""

from __future__ import annotations

import json
from collections import UserDict
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

import offmap
from offmap._utils.inputs import batches_of
from offmap.cli import main
from offmap.data import ImageSet, Skipped, read_rows
from offmap.data import noise as data_noise
from offmap.errors import (
    ChanceWarning,
    DataError,
    DataNotFoundError,
    InputsWarning,
    LabelError,
    NotFittedError,
    OverlapWarning,
)
from offmap.forward import forward
from offmap.guard.files import score_files
from offmap.scale._verdicts import columns_of
from offmap.stats import Bank

N = 240


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.fc = nn.Linear(48, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x.flatten(1)).relu())


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (N, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return x, torch.arange(N) % 4


class Samples(Dataset[Any]):
    """Pictures and labels one by one."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        x, y = data()
        return Image.fromarray(x[i].permute(1, 2, 0).numpy()), int(y[i])


def cut(size: int = 50) -> Iterator[tuple[Tensor, Tensor]]:
    x, y = data()
    return ((x[i : i + size], y[i : i + size]) for i in range(0, N, size))


def refilled() -> Iterator[tuple[Tensor, Tensor]]:
    x, y = torch.empty(50, 3, 4, 4, dtype=torch.uint8), torch.empty(50, dtype=torch.int64)
    for a, b in cut():
        x[: len(a)], y[: len(b)] = a, b
        yield x[: len(a)], y[: len(b)]


def refilled_by_sample() -> Iterator[tuple[Tensor, Tensor]]:
    x, y = torch.empty(3, 4, 4, dtype=torch.uint8), torch.empty((), dtype=torch.int64)
    for image, label in zip(*data(), strict=True):
        x.copy_(image)
        y.copy_(label)
        yield x, y


class LabelFirst(NamedTuple):
    label: Tensor
    image: Tensor


class Attributes(dict[str, Any]):
    """As many programs have one: what it lacks is a KeyError."""

    __getattr__ = dict.__getitem__


class Unending(Dataset[Any]):
    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        x, y = data()
        if i >= N:
            raise IndexError(i)
        return x[i], int(y[i])


FORMS: dict[str, Callable[[], Any]] = {
    "dicts": lambda: [{"image": x, "label": y} for x, y in cut()],
    "mappings": lambda: [UserDict(pixel_values=x, labels=y) for x, y in cut()],
    "lists of tensors": lambda: [(list(x), y.tolist()) for x, y in cut()],
    "arrays with channels last": lambda: [
        (x.permute(0, 2, 3, 1).numpy(), y.numpy()) for x, y in cut()
    ],
    "a loader": lambda: DataLoader(TensorDataset(*data()), batch_size=32),
    "a data set": lambda: TensorDataset(*data()),
    "a data set of pictures": Samples,
    "samples": lambda: list(zip(*data(), strict=True)),
    "arrays of all": lambda: tuple(part.numpy() for part in data()),
    "tensors of all": data,
    "a list of labels": lambda: (data()[0], data()[1].tolist()),
    "a dict of all": lambda: {"images": data()[0], "labels": data()[1]},
    "other bytes": lambda: [(x.numpy(), y.numpy().astype(">i8")) for x, y in cut()],
    "labels first, by name": lambda: [LabelFirst(y, x) for x, y in cut()],
    "lists of samples": lambda: [list(zip(x, y, strict=True)) for x, y in cut()],
    "lists of dicts": lambda: [
        [{"image": a, "label": int(b)} for a, b in zip(x, y, strict=True)] for x, y in cut()
    ],
    "dicts with attributes": lambda: [Attributes(image=x, label=y) for x, y in cut()],
    "a data set without a length": Unending,
    "one buffer": refilled,
    "one buffer for a sample": refilled_by_sample,
}


@pytest.fixture(scope="module")
def expected() -> Tensor:
    return guard_on(cut())(data(1)[0]).scores


def guard_on(form: Any) -> offmap.Guard:
    guard = offmap.Guard(Net(), "knn").fit(form)
    return guard.calibrate([data(2)[0]])


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_the_data_gives_the_same_guard(
    form: Callable[[], Any], expected: Tensor
) -> None:
    assert torch.allclose(guard_on(form())(data(1)[0]).scores, expected, atol=1e-6)


def test_a_guard_fitted_on_a_bare_tensor_is_kept(tmp_path: Path) -> None:
    guard = guard_on(data()[0])
    guard.save(tmp_path)
    loaded = offmap.load(tmp_path, Net())
    assert torch.equal(loaded(data(1)[0]).scores, guard(data(1)[0]).scores)


def test_a_dict_of_unknown_keys_is_refused_with_them() -> None:
    with pytest.raises(DataError, match="the keys 'photo', 'kind': give the inputs as one of"):
        offmap.Guard(Net(), "msp").fit([{"photo": data()[0], "kind": data()[1]}])


@pytest.mark.parametrize(
    "label", ["a.png", {"boxes": 1}, 0.7, torch.eye(4)[0], np.int32(2), torch.tensor(3)]
)
def test_what_samples_have_beside_them_reads_as_a_loader_gives_it(label: Any) -> None:
    class Beside(Dataset[Any]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, i: int) -> tuple[Tensor, Any]:
            return torch.full((3, 4, 4), i), label

    beside = Beside()
    (_, one_by_one), *_ = batches_of(beside, 3)
    (_, together), *_ = batches_of(DataLoader(beside, 3), 3)
    if one_by_one is None or together is None:
        assert one_by_one is together
    else:
        assert torch.equal(one_by_one, together)


def test_pictures_of_several_sizes_are_refused() -> None:
    batch = [Image.new("RGB", (4, 4)), Image.new("RGB", (5, 4))]
    with pytest.raises(DataError, match="samples of one batch must have one shape"):
        offmap.Guard(Net(), "msp").fit([batch])


def test_pictures_are_read_as_files_are() -> None:
    deep = np.array([[0, 257, 65535]], dtype=np.uint16)
    turned = Image.Exif()
    turned[0x0112] = 6
    file = BytesIO()
    Image.new("RGB", (3, 1)).save(file, "PNG", exif=turned)
    cases = [
        (Image.fromarray(deep), torch.tensor([[[0, 1, 255]]])),
        (Image.new("LA", (3, 1), (7, 9)), torch.full((1, 1, 3), 7)),
        (Image.new("RGBA", (3, 1), (1, 2, 3, 0)), torch.tensor([[[1] * 3], [[2] * 3], [[3] * 3]])),
        (Image.open(file), torch.zeros(3, 3, 1, dtype=torch.long)),
    ]
    for picture, expected in cases:
        ((x, _),) = batches_of([(picture, 0)], 4)
        assert isinstance(x, Tensor)
        assert x.dtype == torch.uint8
        assert torch.equal(x.long(), expected[None])
    with pytest.raises(DataError, match="pixels are floats"):
        next(batches_of([(Image.new("F", (3, 1)), 0)], 4))


def test_labels_of_several_lengths_are_told_as_labels() -> None:
    samples = [(torch.zeros(3), np.array([0, 1])), (torch.zeros(3), np.array([0]))]

    class Odd(Dataset[Any]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, i: int) -> Any:
            return samples[i]

    with pytest.raises(LabelError, match="labels must be one number a sample"):
        next(batches_of(Odd(), 2))


@pytest.mark.parametrize(
    "one",
    [
        lambda x: x[0],
        lambda x: x[:1].numpy(),
        lambda x: Image.fromarray(x[0].permute(1, 2, 0).numpy()),
        lambda x: [Image.fromarray(x[0].permute(1, 2, 0).numpy())],
        lambda x: [x[0]],
        lambda x: x[0].permute(1, 2, 0).numpy(),
    ],
    ids=["tensor", "array", "picture", "list of pictures", "list of tensors", "channels last"],
)
def test_one_sample_has_one_verdict(one: Callable[[Tensor], Any]) -> None:
    guard, x = guard_on(cut()), data(1)[0]
    verdict = guard(one(x))
    assert len(verdict) == 1
    assert torch.allclose(verdict.scores, guard(x).scores[:1], atol=1e-6)


def test_sets_and_folders_have_verdicts_that_know_their_samples(tmp_path: Path) -> None:
    guard, x = guard_on(cut()), data(1)[0][:6]
    for i, each in enumerate(x):
        Image.fromarray(each.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    whole = guard(x)
    of_set = guard(ImageSet("some", x))
    of_folder = guard(tmp_path)
    for verdict in (of_set, of_folder):
        assert torch.allclose(verdict.scores, whole.scores, atol=1e-6)
        assert len(set(verdict.keys)) == 6
    assert [Path(key).name for key in of_folder.keys] == [f"{i}.png" for i in range(6)]
    assert [answer.key for answer in of_folder] == list(of_folder.keys)


def test_a_guard_says_in_one_line_what_it_is() -> None:
    guard = offmap.Guard(Net(), "msp")
    guard.fit(cut()).calibrate([data(2)[0]], alarm_rate=0.1)
    assert repr(guard) == (
        f"Guard(Net, {guard.detectors[0]!r}; Calibration(plain, 240 samples, alarm rate 10.00%))"
    )


def test_a_verdict_is_read_sample_by_sample() -> None:
    verdict = guard_on(cut())(data(1)[0][:5])
    answers = list(verdict)
    assert len(answers) == 5
    assert verdict[-1] == answers[4]
    assert [a.is_ood for a in answers] == verdict.is_ood.tolist()
    assert [a.answer for a in answers] == verdict.to_dict()["answer"]
    assert repr(verdict).startswith("Verdict on 5 samples: ")
    with pytest.raises(IndexError):
        verdict[5]


class Text(nn.Module):
    """Mean embedding of the tokens under the mask."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.fc = nn.Embedding(50, 8), nn.Linear(8, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        h = (self.embedding(input_ids) * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return {"loss": h.sum(), "logits": self.fc(h)}


def tokens(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 50, (N, 7), generator=generator)
    mask = (torch.arange(7) < torch.randint(3, 8, (N, 1), generator=generator)).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(N) % 4}


def test_text_goes_through_fit_calibrate_save_and_evaluate(tmp_path: Path) -> None:
    net = Text()
    guard = offmap.Guard(net, "mahalanobis").fit([tokens(0)]).calibrate([tokens(1)])
    batch = tokens(2)
    inputs = {name: x for name, x in batch.items() if name != "labels"}
    with torch.no_grad():
        features = guard.probe(inputs).features
    assert torch.allclose(net.fc(features), net(**inputs)["logits"], atol=1e-5)
    guard.save(tmp_path)
    assert torch.equal(offmap.load(tmp_path, net)(inputs).scores, guard(inputs).scores)
    results = offmap.evaluate(
        net,
        train=[tokens(0)],
        id_test=[tokens(1)],
        ood={"other": [inputs]},
        detectors=["knn", "msp"],
    )
    assert {row.n_ood for row in results.rows} == {N}


def test_tokens_alone_stay_integers() -> None:
    guard = offmap.Guard(Text(), "mahalanobis")
    guard.fit([(tokens(0)["input_ids"], tokens(0)["labels"])])
    assert guard.input_shape == (7,)
    assert guard.history.read["fit"]["dtype"] == "int64"


class Reusing(nn.Module):
    """Returns the same tensor at every call, filled anew."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.out = Net(), torch.empty(50, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out[: len(x)].copy_(self.net(x))


def test_what_a_network_returns_may_be_filled_again() -> None:
    batches = [(x, y) for x, y in cut()]
    a, b = (list(forward(net, batches)) for net in (Reusing(), Net()))
    for (left, _), (right, _) in zip(a, b, strict=True):
        assert torch.equal(left.logits, right.logits)


def test_features_that_a_loader_fills_again_are_copied() -> None:
    h = torch.randn(N, 8, generator=torch.Generator().manual_seed(0))

    def refill() -> Iterator[Tensor]:
        x = torch.empty(60, 8)
        for start in range(0, N, 60):
            yield x.copy_(h[start : start + 60])

    batches = list(forward(nn.Identity(), refill(), outputs="features"))
    assert torch.equal(torch.cat([acts.features for acts, _ in batches]), h)


class Right(nn.Module):
    """The brightest of four pixels is the class."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4, bias=False)
        nn.init.eye_(self.fc.weight).data.mul_(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


def known(seed: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(N, 4, generator=torch.Generator().manual_seed(seed))
    return x, x.argmax(1)


@pytest.mark.filterwarnings("error")
def test_labels_in_another_order_are_told_and_right_ones_are_not() -> None:
    x, y = known(0)
    guard = offmap.Guard(Right(), "mahalanobis").fit((x, y)).calibrate(known(1))
    assert "the network is right on 100.00% of them" in guard.explain()
    with pytest.warns(ChanceWarning, match=r"right on 0\.0% of the 240 samples of the data to fit"):
        offmap.Guard(Right(), "mahalanobis").fit((x, (y + 1) % 4))
    one = y == 3  # of one class alone, labelled as another
    with pytest.warns(ChanceWarning, match=r"right on 0\.0%.*by chance \(25\.0%\)"):
        offmap.Guard(Right(), "msp").fit((x[one], y[one] - 1))
    offmap.Guard(Right(), "msp").fit((x[one], y[one]))
    with pytest.warns(ChanceWarning, match="the set 'id'"):
        offmap.evaluate(Right(), id_test=[(x, (y + 1) % 4)], ood={"far": [5 + x]}, detectors="msp")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("label", [-100, -1, 4])
def test_labels_of_no_class_are_told(label: int) -> None:
    x, y = known(0)
    wrong = torch.where(torch.arange(N) < 9, label, y)
    words = rf"9 of the 240 labels of the set 'id' are none of the network's 4 classes, .*: {label}"
    with pytest.warns(ChanceWarning, match=words):
        offmap.evaluate(Right(), id_test=[(x, wrong)], ood={"far": [5 + x]}, detectors="msp")
    with pytest.warns(ChanceWarning, match="9 of the 240 labels of the calibration data"):
        offmap.Guard(Right(), "msp").calibrate((x, wrong))


@pytest.mark.parametrize("kind", ["column", "one-hot"])
def test_labels_of_two_axes_are_no_second_batch(kind: str) -> None:
    x, y = known(0)
    images = x[:, :, None]
    labels = y[:, None] if kind == "column" else F.one_hot(y, 4)
    for data in [(images, labels)] + [(x, labels)] * (kind == "column"):
        with pytest.raises(LabelError, match=r"labels of shape \(240, .\) beside inputs"):
            offmap.Guard(nn.Sequential(nn.Flatten(), Right()), "msp").fit(data)
    tokens = [x, x[:, :3], x[:1, :1]]  # batches, one behind the other, may differ in length
    assert [len(each) for each, _ in batches_of(tokens, 7)] == [240, 240, 1]


@pytest.mark.filterwarnings("error")
def test_samples_that_stand_in_two_sets_are_told_of_or_refused() -> None:
    (x, y), (other, _) = known(0), known(1)
    guard = offmap.Guard(Right(), "msp").fit((x, y))
    with pytest.warns(OverlapWarning, match="3 of the 240 samples of the calibration data"):
        guard.calibrate(torch.cat([x[:3], other[3:]]))
    with pytest.warns(OverlapWarning, match="2 of the 240 samples of the OOD set 'far'.*ID set"):
        results = offmap.evaluate(
            Right(),
            id_test=[(x, y)],
            ood={"far": [torch.cat([x[5:7], 3 + x[2:]])]},
            detectors="msp",
        )
    assert results.settings["overlaps"] == {"far in id": 2}


def test_sets_of_more_than_a_hundredth_in_common_are_refused() -> None:
    x, y = data()
    sets = {"id_test": ImageSet("a", x, y), "ood": {"same": ImageSet("b", x[20:])}}
    with pytest.raises(DataError, match="220 of the 220 samples of the OOD set 'same'"):
        offmap.evaluate(Net(), **sets, detectors="msp")
    with pytest.raises(DataError, match="the ID set and the training data are the same samples"):
        offmap.evaluate(Net(), train=ImageSet("c", x, y), **sets, detectors="msp")
    with pytest.raises(DataError, match="120 of the 240 samples of the calibration data"):
        offmap.Guard(Net(), "msp").fit(ImageSet("a", x, y)).calibrate(
            ImageSet("b", torch.cat([x[:120], data(1)[0][:120]]))
        )


def test_a_network_that_was_trained_on_is_refused_at_the_call() -> None:
    net = Net()
    guard = offmap.Guard(net, "msp").fit(cut()).calibrate([data(1)[0]])
    before = guard(data(2)[0]).scores
    with torch.no_grad():
        net.fc.bias.add_(0)  # touched, and the same
    assert torch.equal(guard(data(2)[0]).scores, before)
    bias = net.fc.bias.detach().clone()
    with torch.no_grad():
        net.fc.bias.add_(1)
    for _ in range(2):  # and remains so
        with pytest.raises(NotFittedError, match="weights have changed since this guard was fit"):
            guard(data(2)[0])
    with torch.no_grad():
        net.fc.bias.copy_(bias)
    assert torch.equal(guard(data(2)[0]).scores, before)


def test_arrays_of_numpy_are_scored_as_tensors() -> None:
    guard, x = guard_on(cut()), data(1)[0]
    assert torch.equal(guard(np.asarray(x)).scores, guard(x).scores)


def test_a_mask_alone_says_how_long_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"other": [1]}')
    ((_, row),) = read_rows([str(tmp_path / "rows.jsonl")], ["attention_mask"])
    assert isinstance(row, Skipped)
    assert "no column 'attention_mask': there are other" in row.reason


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_file_of_rows_that_is_not_there_is_told_of(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=rf"rows\.{kind} does not exist: look at the path"):
        next(read_rows([str(tmp_path / f"rows.{kind}")], ["x"]))


def test_a_line_that_is_no_json_keeps_its_place_and_its_name(tmp_path: Path) -> None:
    # One that is nested too deep ended the reading, and the number of the row was missing.
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": [1]}\n{"x": \n' + "[" * 100_000 + '\n{"x": [2]}')
    rows = list(read_rows([str(path)], ["x"]))
    assert [isinstance(row, Skipped) for _, row in rows] == [False, True, True, False]
    for i in (1, 2):
        name, row = rows[i]
        assert isinstance(row, Skipped)
        assert row.path == name == f"{path}#{i}"
        assert row.reason.startswith("no JSON: ")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_of_tokens_are_scored_from_files(kind: str, tmp_path: Path) -> None:
    """Rows of several lengths are filled up; one without tokens is a row with the reason."""
    guard = offmap.Guard(Text(), "mahalanobis").fit([tokens(0)]).calibrate([tokens(1)])
    batch = tokens(2)
    lengths = batch["attention_mask"].sum(1).tolist()
    ids = [row[:n] for row, n in zip(batch["input_ids"].tolist(), lengths, strict=True)]
    rows: list[dict[str, Any]] = [{"input_ids": row} for row in ids]
    rows[3] = {"input_ids": None}
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    summary = score_files(guard, [str(path)], tmp_path / "out.jsonl", batch_size=64)
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    expected = guard({name: batch[name] for name in ("input_ids", "attention_mask")})
    assert (summary.images, summary.unreadable) == (N, 1)
    assert [row["path"] for row in found] == [f"{path}#{i}" for i in range(N)]
    assert "no numbers" in found[3]["error"]
    scores = torch.tensor([row["score"] or 0.0 for row in found])
    others = torch.arange(N) != 3
    assert torch.allclose(scores[others], expected.scores[others], rtol=1e-5)


class LastWord(nn.Module):
    """Answers from the last token that is no padding, as classifiers of language models do."""

    def __init__(self, padding: int | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = SimpleNamespace(pad_token_id=padding)
        self.embedding, self.fc = nn.Embedding(50, 8), nn.Linear(8, 4)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        if self.config.pad_token_id is None:
            if len(input_ids) > 1 and not attention_mask.all():
                raise ValueError("cannot handle several texts without a padding token")
            return self.fc(self.embedding(input_ids).cumsum(1))[:, -1]
        last = (input_ids != self.config.pad_token_id).sum(1) - 1
        return self.fc(self.embedding(input_ids).cumsum(1))[torch.arange(len(last)), last]


class Masked(Text):
    """Reads no mask: what a row is filled up with would count."""

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        return super().forward(input_ids)


@pytest.mark.parametrize("network", [Masked(), LastWord(49), LastWord(None)])
def test_the_verdict_on_a_row_does_not_depend_on_its_company(
    network: nn.Module, tmp_path: Path
) -> None:
    batch = tokens(0)
    batch = {name: x for name, x in batch.items() if name != "attention_mask"}
    if isinstance(network, LastWord):
        batch["attention_mask"] = torch.ones(N, 7).long()
    guard = offmap.Guard(network, "KNN(k=5)").fit([batch]).calibrate([batch])
    lengths = [2, 7, 5, 5, 1, 2]
    rows = [torch.arange(1, n + 1).tolist() for n in lengths]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"input_ids": row}) for row in [*rows, None]))
    score_files(guard, [str(path)], tmp_path / "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    samples = [{"input_ids": torch.tensor(row)} for row in rows]
    for sample in samples if isinstance(network, LastWord) else ():
        sample["attention_mask"] = torch.ones_like(sample["input_ids"])
    alone = [guard({name: x[None] for name, x in sample.items()}) for sample in samples]
    scores = torch.tensor([row["score"] for row in found[:-1]])
    assert torch.allclose(scores, torch.cat([one.scores for one in alone]), rtol=1e-4)
    assert "no numbers" in found[-1]["error"]
    columns = columns_of(guard, samples)
    assert np.allclose(columns["score"], scores, rtol=1e-4)


def test_rows_of_features_are_scored_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from torch import nn\n\ndef network():\n    return nn.Identity()\n")
    guard = offmap.Guard(nn.Identity(), "mahalanobis", outputs="features")
    guard.fit(known(0)).calibrate(known(1)).save("guard")
    x = known(2)[0][:5]
    pq.write_table(pa.table({"features": list(x.numpy())}), "rows.parquet")
    with pytest.raises(SystemExit) as ended:
        main(["score", "guard", "rows.parquet", "--model", "mine.py:network", "--out", "out.jsonl"])
    assert not ended.value.code, capsys.readouterr()
    scores = [json.loads(line)["score"] for line in Path("out.jsonl").read_text().splitlines()]
    assert torch.allclose(torch.tensor(scores), guard(x).scores)


def test_a_row_that_the_network_refuses_costs_no_other_its_verdict(tmp_path: Path) -> None:
    guard = offmap.Guard(Text(), "mahalanobis").fit([tokens(0)]).calibrate([tokens(1)])
    rows: list[Any] = [[1, 2, 3], [1, 2, 99], [1.5, 2.0], [[1], [2]], [], [4, 5]]
    text = "".join(json.dumps({"input_ids": row}) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(text)
    score_files(guard, [str(tmp_path / "rows.jsonl")], tmp_path / "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["error"] is None for row in found] == [True, False, False, False, False, True]
    assert found[1]["error"].startswith("the network refuses it: IndexError")
    alone = guard({"input_ids": torch.tensor([rows[0]]), "attention_mask": torch.ones(1, 3).long()})
    assert found[0]["score"] == pytest.approx(float(alone.scores[0]), rel=1e-5)


def test_a_row_without_memory_is_no_row_that_the_network_refuses(tmp_path: Path) -> None:
    class Hungry(Text):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
            if len(input_ids) == 1:
                torch.empty(1 << 50)
            return super().forward(input_ids, attention_mask)

    guard = offmap.Guard(Hungry(), "mahalanobis").fit([tokens(0)]).calibrate([tokens(1)])
    (tmp_path / "rows.jsonl").write_text('{"input_ids": [1, 2, 3, 4]}\n')
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        score_files(guard, [str(tmp_path / "rows.jsonl")], tmp_path / "out.jsonl")


def test_whole_numbers_are_features_in_any_company(tmp_path: Path) -> None:
    """Programs write 1 for 1.0; and a row of another length is one row with a reason."""
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    x = torch.randn(300, 3)
    guard = (
        offmap.Guard(net, "mahalanobis").fit((x[:200], net(x).argmax(1)[:200])).calibrate(x[200:])
    )
    rows: list[Any] = [[1, 2, 3], [1, 0, 1], [1, 2], 4, [0.5, 1.0, 2.0]]
    text = "".join(json.dumps({"features": row}) + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(text)
    expected = guard(torch.tensor([[1.0, 2, 3], [1, 0, 1], [0.5, 1, 2]])).scores.tolist()
    for size in (1, 2, 256):
        out = tmp_path / f"{size}.jsonl"
        score_files(guard, [str(tmp_path / "rows.jsonl")], out, batch_size=size)
        found = [json.loads(line) for line in out.read_text().splitlines()]
        assert found[2]["error"] == "features of (2,), not (3,)"
        assert found[3]["error"] == "features of (), not (3,)"
        assert [found[i]["score"] for i in (0, 1, 4)] == pytest.approx(expected, rel=1e-5)


def test_labels_beside_arrays_are_read_or_refused_and_never_dropped() -> None:
    x, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 2

    def scores(labels: Any) -> Tensor:
        guard = offmap.Guard(nn.Linear(4, 2), "mahalanobis")
        guard.probe.network.load_state_dict({"weight": torch.eye(2, 4), "bias": torch.zeros(2)})
        return guard.fit((x, labels)).calibrate(x)(x).scores

    assert torch.equal(scores(y == 1), scores(y))
    with pytest.raises(LabelError, match=r"labels of <U1: give the number of each"):
        scores(np.array(["a", "b"])[y])


def test_what_is_drawn_by_a_seed_does_not_depend_on_the_default_device() -> None:
    """A generator of the processor draws for no other device: so it is with CUDA by default."""
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))

    def drawn() -> list[Tensor]:
        bank, noise = Bank.of(rows, size=10), data_noise("gaussian", 5, (1, 4, 4))
        return [bank.rows, noise.images]

    before = drawn()
    with torch.device("meta"):
        after = drawn()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("given", [None, 5, cut])
def test_what_is_no_data_is_told(given: Any) -> None:
    with pytest.raises(DataError, match="data must be batches, samples, arrays of all samples"):
        offmap.Guard(Net(), "msp").fit(given)


@pytest.mark.filterwarnings("error")
def test_arrays_that_must_not_be_written_to_are_copied_batch_by_batch() -> None:
    x, y = (part.numpy() for part in data())
    x.flags.writeable = y.flags.writeable = False
    for inputs, labels in batches_of((x, y), 50):
        inputs.zero_()
        labels.zero_()
    assert x.any()


def test_numbers_in_the_other_byte_order_are_the_same_numbers() -> None:
    x = torch.rand(6, 4)
    (inputs, _), *_ = batches_of(x.numpy().astype(">f4"), 6)
    assert torch.equal(inputs, x)


def test_images_of_two_values_have_no_known_range() -> None:
    with pytest.raises(DataError, match="images of bool have no known range"):
        offmap.Guard(Net(), "msp").fit([data()[0] > 100])


def test_labels_that_are_missing_are_told_as_labels() -> None:
    labels = torch.full((N,), torch.nan)
    with pytest.raises(LabelError, match=r"labels of a batch are NaN or infinite"):
        offmap.Guard(Net(), "msp").fit((data()[0], labels))


@pytest.mark.parametrize("form", ["dicts", "mappings", "labels first, by name"])
def test_a_guard_is_called_on_what_a_loader_gives(form: str, expected: Tensor) -> None:
    guard = guard_on(cut())
    batch = next(iter(FORMS[form]()))
    assert torch.allclose(guard(batch).scores, guard(next(cut())[0]).scores)
    assert torch.allclose(guard(next(cut())).scores, guard(batch).scores)


def test_columns_that_the_network_does_not_take_are_left_out_and_told() -> None:
    class Plain(Text):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
            return super().forward(input_ids=input_ids, attention_mask=attention_mask)

    batch = tokens(0) | {"idx": torch.arange(N), "text": ["a"] * N}
    with pytest.warns(InputsWarning, match="the network takes no idx, and is run without"):
        guard = offmap.Guard(Plain(), "knn").fit([batch])
    assert guard.input_names == ("input_ids", "attention_mask")
    assert len(guard.calibrate([batch])(batch)) == len(batch["idx"])


def test_inputs_and_labels_may_stand_in_a_dict_each() -> None:
    batch = tokens(0)
    labels = {"label": batch.pop("labels")}
    ((inputs, _),) = batches_of([[batch, labels]], N)
    assert isinstance(inputs, dict)
    assert {name: x.shape for name, x in inputs.items()} == {n: (N, 7) for n in batch}


def test_names_of_which_the_network_takes_none_are_told() -> None:
    class Other(Text):
        def forward(self, words: Tensor) -> Any:
            return super().forward(words)

    with pytest.raises(DataError, match="hold input_ids, attention_mask, and the network takes wo"):
        offmap.Guard(Other(), "msp").fit([tokens(0)])


class Squeezing(nn.Module):
    """Loses the axis of samples where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.fc = nn.Conv2d(3, 5, 3), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean((2, 3), keepdim=True).squeeze())


@pytest.mark.parametrize("sizes", [(40, 1), (1, 40)])
def test_a_network_that_squeezes_takes_a_batch_of_one(sizes: tuple[int, int]) -> None:
    x, y = data()[0][:41].float(), data()[1][:41]
    loader = list(zip(x.split(sizes), y.split(sizes), strict=True))
    guard = offmap.Guard(Squeezing(), ["KNN(k=5)", "energy"]).fit(loader).calibrate([x])
    assert guard.probe.head is not None
    with guard.probe as probe:
        one_by_one = [probe(x[i : i + 1]) for i in range(5)]
        together = probe(x[:5])
    features = torch.cat([acts.features for acts in one_by_one])
    assert torch.allclose(features, together.features, atol=1e-4)
    assert guard(x[:1]).labels.tolist() == together.labels[:1].tolist()


def another_layer(network: Net) -> None:
    network.fc = nn.Linear(8, 4)


def another_parameter(network: Net) -> None:
    network.fc.weight = nn.Parameter(torch.randn(4, 8))


def assigned(network: Net) -> None:
    state = {name: torch.randn_like(x) for name, x in network.state_dict().items()}
    network.load_state_dict(state, assign=True)


def exchanged(network: Net) -> None:
    network.body.weight, network.body.twin = network.body.twin, network.body.weight


@pytest.mark.parametrize("replace", [another_layer, another_parameter, assigned, exchanged])
def test_a_network_whose_parameters_were_replaced_is_refused_at_the_call(
    replace: Callable[[Net], None],
) -> None:
    network = Net()
    network.body.twin = nn.Parameter(torch.randn(8, 48))
    guard = offmap.Guard(network, "energy").fit(cut()).calibrate([data(2)[0]])
    same = {name: x.clone() for name, x in network.state_dict().items()}
    network.load_state_dict(same, assign=True)
    guard(data(1)[0])  # the same values in other places
    replace(network)
    with pytest.raises(NotFittedError, match="weights have changed"):
        guard(data(1)[0])


class WithMetadata(nn.Module):
    """A picture, and two numbers that go with it where they are given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.beside, self.fc = nn.Linear(48, 8), nn.Linear(2, 8), nn.Linear(8, 4)

    def forward(self, image: Tensor, metadata: Tensor | None = None) -> Tensor:
        h = self.body(image.flatten(1))
        return self.fc((h if metadata is None else h + 10 * self.beside(metadata)).relu())


def with_metadata(seed: int) -> dict[str, Tensor]:
    x, y = data(seed)
    numbers = torch.randn(N, 2, generator=torch.Generator().manual_seed(seed))
    return {"image": x, "metadata": numbers, "label": y, "index": torch.arange(N)}


class RowsWithMetadata(Dataset[Any]):
    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> dict[str, Any]:
        batch = with_metadata(0)
        picture = Image.fromarray(batch["image"][i].permute(1, 2, 0).numpy())
        return {"image": picture, "metadata": batch["metadata"][i].numpy(), "label": i % 4}


@pytest.mark.parametrize("form", [lambda: [with_metadata(0)], RowsWithMetadata])
def test_a_network_is_given_what_it_names_beside_an_image(
    form: Callable[[], Any], tmp_path: Path
) -> None:
    network = WithMetadata()
    guard = offmap.Guard(network, "mahalanobis").fit(form()).calibrate([with_metadata(1)])
    assert guard.input_names == ("image", "metadata")
    batch = with_metadata(2)
    with torch.no_grad():
        own = network(batch["image"] / 255, batch["metadata"])
    verdict = guard(batch)
    assert torch.equal(verdict.labels, own.argmax(1))
    guard.save(tmp_path)
    assert torch.equal(offmap.load(tmp_path, network)(batch).scores, verdict.scores)


def test_a_network_is_given_the_columns_that_it_names() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.fc = nn.Embedding(9, 5), nn.Linear(5, 4)

        def forward(self, numbers: Tensor, kinds: Tensor) -> Tensor:
            return self.fc(self.words(kinds) + numbers)

    batch = {"numbers": torch.randn(N, 5), "kinds": torch.arange(N) % 9, "label": data()[1]}
    guard = offmap.Guard(Table(), "mahalanobis").fit([batch])
    assert guard.input_names == ("numbers", "kinds")
    with pytest.raises(DataError, match=r"a batch has 2 inputs, of shapes \(240, 5\), \(240,\)"):
        guard.fit([((batch["numbers"], batch["kinds"]), batch["label"])])


@pytest.mark.parametrize("kind", ["lists", "tensors"])
def test_rows_of_text_without_labels_are_samples(kind: str) -> None:
    batch = tokens(0)
    names = ["input_ids", "attention_mask"]
    rows = [{name: batch[name][i] for name in names} for i in range(N)]
    if kind == "lists":
        rows = [{name: x.tolist() for name, x in row.items()} for row in rows]
    guard = offmap.Guard(Text(), "knn").fit(iter(rows)).calibrate([tokens(1)])
    assert guard.history.read["fit"]["samples"] == N
    together = guard({name: batch[name][:1] for name in names})
    assert torch.equal(guard(rows[0]).scores, together.scores)


def test_rows_of_several_lengths_in_one_batch_are_told() -> None:
    batch = {"input_ids": [[1, 2], [1, 2, 3]], "attention_mask": [[1, 1], [1, 1, 1]]}
    with pytest.raises(DataError, match="input_ids is no array: give rows of one length"):
        offmap.Guard(Text(), "msp").fit([batch])
    ((inputs, _),) = batches_of([{"input_ids": list(tokens(0)["input_ids"])}], N)
    assert isinstance(inputs, dict)
    assert torch.equal(inputs["input_ids"], tokens(0)["input_ids"])


def test_a_guard_on_a_whole_set_says_that_it_wants_its_batches() -> None:
    x, _ = known(0)
    guard = offmap.Guard(Right(), "msp").calibrate(known(1))
    for whole in (TensorDataset(x), DataLoader(TensorDataset(x)), iter([x])):
        with pytest.raises(DataError, match="of a whole data set, give one batch at a time"):
            guard(whole)
    with pytest.raises(DataError, match=r"seen int$"):
        guard(3)


class Numbered(Dataset[Any]):
    """Samples with their number before the label."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> tuple[Tensor, int, int]:
        x, y = data()
        return x[i], i, int(y[i])


def test_the_number_of_a_sample_is_not_taken_for_its_label_in_silence() -> None:
    x, y = data()
    rows = torch.arange(N)
    loader = DataLoader(TensorDataset(x, rows, y), batch_size=64)
    for numbered in (loader, Numbered(), [(x, rows.numpy(), y.numpy())]):
        with pytest.warns(InputsWarning, match="the second, which is taken for the labels, counts"):
            next(iter(batches_of(numbered, 64)))


def test_labels_before_a_number_or_one_of_each_are_labels() -> None:
    x, y = data()
    rows = torch.arange(N)
    for third in (rows, y.float(), y[:, None]):
        ((_, labels),) = batches_of([(x, rows, third)], N)
        assert labels is rows
    ((_, labels),) = batches_of([(x[:4], y[:4], torch.zeros(4, dtype=torch.int64))], N)
    assert torch.equal(labels, y[:4])
    ((_, labels),) = batches_of([(x, y, rows)], N)
    assert labels is y


def test_a_damaged_table_of_rows_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"rows\.parquet cannot be read as a Parquet file"):
        next(read_rows([str(path)], ["input_ids"]))
