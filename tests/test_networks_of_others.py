"""Networks of timm, of transformers, and such as CLIP: by name, with their own preprocessing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import offmap
from offmap.cli import main
from offmap.errors import ArgumentError, MissingExtraError, ShapeError, UnknownNameError
from offmap.forward import Normalization, Preprocessing, Probe, preprocessing_of
from offmap.guard import Opening
from offmap.networks import build, zero_shot


class Encoder(nn.Module):
    """Returns what ``wrap`` makes of embeddings of five dimensions."""

    def __init__(self, wrap: Callable[[Tensor], Any] = lambda h: h) -> None:
        super().__init__()
        self.body, self.wrap = nn.Linear(12, 5), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.body(x.flatten(1)))


def cosines(encoder: Encoder, texts: Tensor, x: Tensor, scale: float) -> Tensor:
    """The definition, in float64."""
    body = encoder.body
    h = x.flatten(1).double() @ body.weight.double().T + body.bias.double()
    t = texts.double()
    return scale * (h / h.norm(dim=1, keepdim=True)) @ (t / t.norm(dim=1, keepdim=True)).T


@pytest.mark.parametrize(
    "wrap",
    [
        lambda h: h,
        lambda h: SimpleNamespace(image_embeds=h, pooler_output=None, last_hidden_state=h[None]),
        lambda h: SimpleNamespace(pooler_output=h),
    ],
)
def test_zero_shot_is_the_scaled_cosine(wrap: Callable[[Tensor], Any]) -> None:
    torch.manual_seed(0)
    encoder, texts, x = Encoder(wrap), 3 * torch.randn(4, 5), torch.randn(6, 3, 2, 2)
    network = zero_shot(encoder, texts, scale=20.0)
    wanted = cosines(encoder, texts, x, 20.0)
    torch.testing.assert_close(network(x).double(), wanted, atol=1e-4, rtol=0)
    assert not torch.allclose(wanted[:, :1], wanted)


def test_the_probe_finds_head_and_features_of_zero_shot() -> None:
    torch.manual_seed(0)
    encoder, texts, x = Encoder(), torch.randn(4, 5), torch.randn(6, 3, 2, 2)
    probe = Probe(zero_shot(encoder, texts))
    acts = probe(x)
    assert probe.head_name == "head"
    assert probe.head is not None
    assert probe.head.bias is None
    torch.testing.assert_close(acts.features.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(
        probe.head(acts.features).double(), cosines(encoder, texts, x, 100.0), atol=5e-4, rtol=0
    )


def test_zero_shot_takes_the_type_of_its_encoder() -> None:
    network = zero_shot(Encoder().double(), torch.randn(4, 5))
    assert network(torch.randn(2, 3, 2, 2).double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("texts", "scale", "error", "words"),
    [
        (torch.ones(5), 1.0, ShapeError, "one row a class"),
        (torch.ones(1, 5), 1.0, ShapeError, "two classes or more"),
        (torch.eye(5) - torch.eye(5)[0], 1.0, ArgumentError, "zero or not finite"),
        (torch.eye(5), 0.0, ArgumentError, "positive number; seen 0.0"),
    ],
)
def test_zero_shot_refuses(texts: Tensor, scale: float, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        zero_shot(Encoder(), texts, scale)


def test_zero_shot_says_what_an_encoder_returned() -> None:
    with pytest.raises(ShapeError, match=r"shape \(n, 4\).*returned \(6, 5\)"):
        zero_shot(Encoder(), torch.randn(3, 4))(torch.randn(6, 3, 2, 2))
    with pytest.raises(ShapeError, match="returned dict"):
        zero_shot(Encoder(lambda h: {}), torch.randn(3, 5))(torch.randn(6, 3, 2, 2))


# What networks say of their images.


class Plain(nn.Module):
    """A classifier with attributes."""

    def __init__(self, classes: int = 3, **attributes: Any) -> None:
        super().__init__()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(2), nn.Linear(12, classes)
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, pixel_values: Tensor) -> Any:
        return SimpleNamespace(logits=self.fc(self.pool(pixel_values).flatten(1)))


TIMM_CONFIG = {
    "input_size": (3, 8, 6),
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.3, 0.4),
    "label_names": ["cat", "dog", "owl"],
}
NAMED = {2: "owl", 0: "cat", 1: "dog"}


def test_what_a_network_of_timm_says() -> None:
    how = preprocessing_of(nn.DataParallel(Plain(pretrained_cfg=TIMM_CONFIG)))
    wanted = Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert how == Preprocessing(wanted, (8, 6), ("cat", "dog", "owl"))


def test_what_others_say_is_nothing() -> None:
    assert preprocessing_of(nn.Linear(2, 2)) == Preprocessing()
    numbers = SimpleNamespace(id2label={0: "LABEL_0", 1: "LABEL_1"})
    assert preprocessing_of(Plain(config=numbers)) == Preprocessing()
    words = SimpleNamespace(id2label={"cat": 0, "dog": 1})
    assert preprocessing_of(Plain(config=words)) == Preprocessing()


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({"size": {"height": 8, "width": 6}}, (8, 6)),
        ({"size": {"shortest_edge": 8}}, (8, 8)),
        ({"size": 8}, (8, 8)),
        ({"size": 9, "crop_size": {"height": 8, "width": 8}, "do_center_crop": True}, (8, 8)),
        ({"size": 9, "crop_size": {"height": 8, "width": 8}, "do_center_crop": False}, (9, 9)),
        ({}, (7, 7)),
    ],
)
def test_sizes_of_processors(values: dict[str, Any], size: tuple[int, int]) -> None:
    network = Plain(config=SimpleNamespace(id2label=NAMED, image_size=7))
    how = preprocessing_of(network, values)
    assert (how.size, how.classes) == (size, ("cat", "dog", "owl"))


@pytest.mark.parametrize(
    "values",
    [
        {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]},
        {"image_mean": 0.5, "image_std": 0.25, "rescale_factor": 1 / 127.5, "rescale_offset": True},
        {"image_mean": [120.0], "image_std": [60.0], "do_rescale": False},
        {"image_mean": [0.5], "image_std": [0.5], "do_normalize": False},
    ],
)
def test_the_normalization_is_that_of_the_processor(values: dict[str, Any]) -> None:
    pixels = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    how = preprocessing_of(Plain(), SimpleNamespace(to_dict=lambda: values)).normalization
    assert how is not None
    x = pixels.double()
    if values.get("do_rescale", True):
        x = x * values.get("rescale_factor", 1 / 255) - float(values.get("rescale_offset", 0))
    if values.get("do_normalize", True):
        mean, std = (
            torch.tensor(values[name], dtype=torch.float64).view(-1, 1, 1)
            for name in ("image_mean", "image_std")
        )
        x = (x - mean) / std
    torch.testing.assert_close(how(pixels).double(), x, atol=1e-5, rtol=0)


def test_a_guard_takes_the_names_of_the_network_where_no_others_are() -> None:
    torch.manual_seed(0)
    network = Plain(config=SimpleNamespace(id2label=NAMED))
    data = [(torch.randn(30, 3, 4, 4), torch.arange(30) % 3)]
    guard = offmap.Guard(network, "msp").fit(data)
    assert guard.classes == ("cat", "dog", "owl")
    assert offmap.Guard(network, "msp", classes=tuple("abc")).fit(data).classes == ("a", "b", "c")
    # Names of other classes than the head's are none.
    assert offmap.Guard(Plain(4, config=network.config), "msp").fit(data).classes == ()


# Names of networks.


class Hub:
    """A hub that knows some repositories, or gives no answer."""

    def __init__(self, known: tuple[str, ...] = (), answers: bool = True) -> None:
        self.known, self.answers, self.asked, self.waited = known, answers, 0, 0
        self.constants = SimpleNamespace(HF_HUB_OFFLINE=False)

    def HfApi(self) -> Hub:  # noqa: N802  # the client's name
        return self

    def model_info(self, repository: str, timeout: float) -> None:
        self.asked += 1
        assert timeout <= 2
        if not self.answers:
            raise ConnectionError("Name or service not known")
        if repository not in self.known:
            raise RepositoryNotFoundError(repository)

    def download(self, repository: str, cached: bool = False) -> None:
        """What the libraries do, which try again and again while they are not told to stop."""
        if not self.answers and not self.constants.HF_HUB_OFFLINE:
            self.waited += 1  # half a minute each, in truth
        if not self.answers and not cached:
            raise OSError(f"{repository} is not in the cache")


class RepositoryNotFoundError(Exception):
    """Of the hub's client, told by its name."""


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Hub]:
    """Puts a hub, a timm and a transformers in place that are known by what they are asked."""

    def put(hub: Hub, cached: bool = False) -> Hub:
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)  # type: ignore[arg-type]
        monkeypatch.setitem(sys.modules, "timm", fake_timm(hub, cached))
        monkeypatch.setitem(sys.modules, "transformers", fake_transformers(hub, cached))
        return hub

    return put


def fake_timm(hub: Hub, cached: bool) -> Any:
    def create(name: str, pretrained: bool = False, num_classes: int = 3) -> nn.Module:
        if pretrained:
            hub.download(f"timm/{name}", cached)
        torch.manual_seed(int(pretrained))
        return Plain(num_classes, pretrained_cfg=TIMM_CONFIG)

    known = {"tiny.a1": SimpleNamespace(has_weights=True, hf_hub_id="timm/tiny.a1")}
    known["bare"] = SimpleNamespace(has_weights=False, hf_hub_id=None)
    return SimpleNamespace(
        create_model=create,
        is_model=known.__contains__,
        list_models=lambda: list(known),
        get_pretrained_cfg=known.get,
    )


def fake_transformers(hub: Hub, cached: bool) -> Any:
    made = {"me/pictures": "TinyForImageClassification", "me/text": "TinyModel"}

    def config(name: str, trust_remote_code: bool = True, **arguments: Any) -> Any:
        assert not trust_remote_code
        hub.download(name, cached)
        return SimpleNamespace(architectures=[made[name]], id2label=NAMED, **arguments)

    def network(name: str, config: Any, trust_remote_code: bool = True) -> nn.Module:
        assert not trust_remote_code
        return Plain(config=config)

    def values(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"image_mean": [0.5], "image_std": [0.25], "size": 8}, {}

    return SimpleNamespace(
        AutoConfig=SimpleNamespace(from_pretrained=config),
        AutoModelForImageClassification=SimpleNamespace(from_pretrained=network),
        image_processing_base=SimpleNamespace(
            ImageProcessingMixin=SimpleNamespace(get_image_processor_dict=values)
        ),
    )


KNOWN = Hub(("timm/tiny.a1", "me/pictures", "me/text"))


def test_a_network_of_timm_by_name(install: Callable[..., Hub]) -> None:
    install(KNOWN)
    network = build("timm:tiny.a1")
    assert not network.training
    torch.manual_seed(1)  # that of trained ones
    assert torch.equal(network.fc.weight, Plain().fc.weight)  # type: ignore[union-attr]
    assert preprocessing_of(network).size == (8, 6)
    assert build("timm:tiny.a1(num_classes=7)").fc.out_features == 7  # type: ignore[union-attr]


def test_weights_of_ones_own_need_no_others(install: Callable[..., Hub], tmp_path: Path) -> None:
    hub = install(Hub(answers=False))
    own = Plain(5)
    torch.save(own.state_dict(), tmp_path / "own.pt")
    network = build("timm:bare(num_classes=5)", weights=tmp_path / "own.pt")
    assert torch.equal(network.fc.weight, own.fc.weight)  # type: ignore[union-attr]
    assert build("timm:bare(pretrained=False)") is not None
    assert hub.asked == 0


def test_a_network_of_the_hub_by_name(install: Callable[..., Hub]) -> None:
    install(KNOWN)
    how = preprocessing_of(build("hf:me/pictures"))
    assert how == Preprocessing(Normalization((0.5,), (0.25,)), (8, 8), ("cat", "dog", "owl"))


@pytest.mark.parametrize(
    ("spec", "error", "words"),
    [
        ("timm:tyny.a1", UnknownNameError, "did you mean 'tiny.a1'"),
        ("timm:bare", ArgumentError, "timm has no weights for bare"),
        ("timm:tiny.a1(depth=3)", ArgumentError, "depth"),
        ("timm:tiny.a1(", ArgumentError, "is not timm:NAME"),
        ("timm:", ArgumentError, "is not timm:NAME"),
        ("hf:me/text", ArgumentError, "is TinyModel, and no classifier.*zero_shot"),
        ("hf:me/nothing", UnknownNameError, "the hub has no 'me/nothing'"),
    ],
)
def test_names_that_are_none(
    spec: str, error: type, words: str, install: Callable[..., Hub]
) -> None:
    install(KNOWN)
    with pytest.raises(error, match=words):
        build(spec)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [("timm:tiny.a1", "offmap[timm]"), ("hf:me/pictures", "offmap[hub]")],
)
def test_without_the_library_the_error_says_how_to_install_it(
    spec: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("timm", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError) as caught:
        build(spec)
    assert f"pip install '{hint}'" in str(caught.value)


@pytest.mark.parametrize("spec", ["timm:tiny.a1", "hf:me/pictures"])
def test_a_hub_without_an_answer_is_told_at_once(spec: str, install: Callable[..., Hub]) -> None:
    hub = install(Hub(answers=False))
    with pytest.raises(UnknownNameError) as caught:
        build(spec)
    for part in ("no answer within 2 seconds", "Name or service not known", "not in the cache"):
        assert part in str(caught.value)
    assert (hub.asked, hub.waited) == (1, 0)
    assert hub.constants.HF_HUB_OFFLINE is False


def test_without_an_answer_the_cache_is_read(install: Callable[..., Hub]) -> None:
    install(Hub(answers=False), cached=True)
    assert preprocessing_of(build("hf:me/pictures")).size == (8, 8)


def test_the_command_line_takes_preprocessing_and_classes(
    install: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(KNOWN)
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for i in range(4):
        Image.new("RGB", (12, 16), (60 * i, 100, 200)).save(f"photos/{i}.png")
    arguments = "fit --model timm:tiny.a1 --data ./photos --detector msp --out guard"
    monkeypatch.setattr(sys, "argv", ["offmap", *arguments.split()])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    record = json.loads(Path("guard/guard.json").read_text())
    assert record["normalization"] == {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    assert record["input_shape"] == [3, 8, 6]
    assert record["classes"] == ["cat", "dog", "owl"]
    assert record["model"] == "timm:tiny.a1"
    # What is downloaded is the user's choice, and not that of a record.
    with pytest.raises(ArgumentError, match=r"give model=.*timm:tiny\.a1"):
        Opening().open("guard")
    assert Opening("timm:tiny.a1").open("guard").classes == ("cat", "dog", "owl")
    for allow in (["timm:"], ["timm:tiny.a1"]):
        assert offmap.load("guard", allow=allow).classes == ("cat", "dog", "owl")
    for allow in (["hf:"], ["timm:tiny"], ["timm"]):
        with pytest.raises(ArgumentError, match=r"this guard was made with model=timm:tiny\.a1"):
            offmap.load("guard", allow=allow)
    with pytest.raises(ArgumentError, match="allow must be a list of names; seen the text"):
        offmap.load("guard", allow="timm:tiny.a1")
    record["model"] = "timm:tiny.a1(checkpoint_path='other.pth')"
    Path("guard/guard.json").write_text(json.dumps(record))
    with pytest.raises(ArgumentError, match="this guard was made with model="):
        offmap.load("guard", allow=["timm:"])  # a path is allowed by itself alone


def test_weights_of_timm_that_are_not_on_the_hub_are_not_looked_for_there(
    install: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = install(KNOWN)
    timm = sys.modules["timm"]
    elsewhere = SimpleNamespace(has_weights=True, hf_hub_id=None)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: elsewhere)
    asked = hub.asked
    monkeypatch.setattr(hub, "download", lambda *arguments: None)
    assert build("timm:tiny.a1") is not None
    assert hub.asked == asked

    def fail(*arguments: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(hub, "download", fail)
    with pytest.raises(UnknownNameError, match=r"timm:tiny.a1 cannot be loaded: no route to host"):
        build("timm:tiny.a1")
