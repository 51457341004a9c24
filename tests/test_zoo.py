"""The zoo: weights with a card, found in three places, and neither of them trusted."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import offmap
from offmap._utils import records
from offmap.cli import main
from offmap.cli._bench import normalization_or_usual
from offmap.errors import ArgumentError, MissingExtraError, StoreError, UnknownNameError
from offmap.forward import Normalization
from offmap.guard import Opening
from offmap.networks import _places, build, digits_cnn, resnet20, wrn40_2, zoo
from offmap.training import normalization

CARD = {
    "network": "resnet20",
    "normalization": {"mean": [0.49, 0.48, 0.45], "std": [0.25, 0.24, 0.26]},
    "data": "cifar10:train",
    "recipe": {"optimizer": "sgd", "lr": 0.1},
    "budget": "smoke",
    "epochs": 1,
    "seed": 0,
    "command": "offmap train",
    "machine": "2 cores, 1 minute",
    "accuracy": 0.5,
}


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A hub with nothing on it that writes down what it is asked for, and no zoo but the test's."""
    asked: list[str] = []

    def download(*, repo_id: str, filename: str) -> str:
        asked.append(f"{repo_id}/{filename}")
        raise OSError("404: no such file\nand more")

    api = SimpleNamespace(model_info=lambda repository, timeout: None)
    module = SimpleNamespace(hf_hub_download=download, HfApi=lambda: api)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.delenv("OFFMAP_ZOO", raising=False)
    monkeypatch.setattr(_places, "__file__", str(tmp_path / "none/src/offmap/networks/x.py"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return asked


@pytest.fixture
def network() -> nn.Module:
    """In training mode, with statistics of its own."""
    torch.manual_seed(0)
    made = resnet20()
    made(torch.randn(4, 3, 32, 32))
    return made


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def edit(folder: Path, **changes: Any) -> None:
    """Change a card; ``None`` takes the key out."""
    path = folder / "tiny.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def file(**changes: Any) -> dict[str, Any]:
    """What a card says of its file, changed."""
    return {"files": {"weights": {"name": "tiny.safetensors", "sha256": "", **changes}}}


def test_what_is_added_is_built(network: nn.Module) -> None:
    path = zoo.add("zoo", "tiny", network, CARD)
    assert path == Path("zoo/tiny.safetensors")
    loaded = build("zoo:tiny")
    assert not loaded.training
    assert_equal(network, loaded)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert msgspec.to_builtins(zoo.card("tiny")) == {
        **{"format": "offmap card", "version": 2},
        **CARD,
        "parameters": 269_722,
        "files": {"weights": {"name": "tiny.safetensors", "sha256": digest}},
    }
    assert normalization("zoo:tiny") == Normalization((0.49, 0.48, 0.45), (0.25, 0.24, 0.26))
    assert zoo.names() == ["tiny"]
    assert sorted(p.name for p in Path("zoo").iterdir()) == ["tiny.json", "tiny.safetensors"]


def test_a_card_says_what_it_replaced(network: nn.Module) -> None:
    path = zoo.add("zoo", "tiny", network, {**CARD, "accuracy": 0.5})
    assert zoo.card("tiny").replaces is None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with torch.no_grad():
        next(network.parameters()).add_(1)
    zoo.add("zoo", "tiny", network, {**CARD, "accuracy": 0.75})
    assert zoo.card("tiny").replaces == {"sha256": digest, "accuracy": 0.5}
    path.with_suffix(".json").write_text("no card")
    zoo.add("zoo", "tiny", network, CARD)
    assert zoo.card("tiny").replaces is None


def test_half_halves_the_weights_and_keeps_vectors_and_counters(network: nn.Module) -> None:
    whole = zoo.add("zoo", "whole", network, CARD)
    half = zoo.add("zoo", "half", network, CARD, half=True)
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    for name, value in load_file(half).items():
        own = network.state_dict()[name]
        if not own.is_floating_point():
            assert value.dtype == own.dtype == torch.int64
        else:
            assert value.dtype == (torch.bfloat16 if own.ndim > 1 else torch.float32), name
        assert torch.equal(value, own.to(value.dtype))
    loaded = build("zoo:half")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(loaded(x), network.eval()(x), rtol=0.05, atol=0.05)


def test_arguments_of_the_card_reach_the_network() -> None:
    spec = "wrn40_2(dropout=0.3, classes=3)"
    zoo.add("zoo", "wide", wrn40_2(classes=3), {**CARD, "network": spec})
    assert build("zoo:wide").block1.layer[0].dropout == 0.3


def test_wrapped_networks_are_stored_under_their_own_names(network: nn.Module) -> None:
    zoo.add("zoo", "tiny", nn.DataParallel(network), CARD)
    assert_equal(network, build("zoo:tiny"))


def test_the_variable_goes_before_the_clone_and_the_clone_before_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: nn.Module, hub: list[str]
) -> None:
    for where in ("named", "clone/zoo", "work/zoo"):
        zoo.add(tmp_path / where, "tiny", network, {**CARD, "data": where})
    assert zoo.card("tiny").data == "work/zoo"
    monkeypatch.setattr(_places, "__file__", str(tmp_path / "clone/src/offmap/networks/x.py"))
    assert zoo.card("tiny").data == "work/zoo"  # a folder above that is no clone
    (tmp_path / "clone/pyproject.toml").touch()
    assert zoo.card("tiny").data == "clone/zoo"
    monkeypatch.setenv("OFFMAP_ZOO", str(tmp_path / "named"))
    assert zoo.card("tiny").data == "named"
    zoo.add(tmp_path / "clone/zoo", "other", network, CARD)
    assert zoo.names() == ["other", "tiny"]
    assert not hub


def test_the_hub_is_asked_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: nn.Module
) -> None:
    zoo.add(tmp_path / "cache", "tiny", network, CARD)
    asked = []

    def download(*, repo_id: str, filename: str) -> str:
        asked.append((repo_id, filename))
        return str(tmp_path / "cache" / filename)

    monkeypatch.setattr(sys.modules["huggingface_hub"], "hf_hub_download", download)
    assert_equal(network, build("zoo:tiny"))
    assert asked == [(zoo.HUB, "tiny.json"), (zoo.HUB, "tiny.safetensors")]
    assert zoo.names() == []


def test_the_error_names_the_three_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFMAP_ZOO", "elsewhere")
    with pytest.raises(UnknownNameError) as error:
        build("zoo:absent")
    for part in ("'absent'", "$OFFMAP_ZOO (elsewhere)", "zoo/ of a clone", zoo.HUB, "404: no such"):
        assert part in str(error.value)
    assert "and more" not in str(error.value)


def test_a_hub_without_an_answer_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_answer(repository: str, timeout: float) -> None:
        raise ConnectionError("Name or service not known")

    def download(*, repo_id: str, filename: str) -> str:
        assert hub.constants.HF_HUB_OFFLINE  # or it would try for half a minute
        raise OSError("not in the cache")

    hub = sys.modules["huggingface_hub"]
    api = SimpleNamespace(model_info=no_answer)
    monkeypatch.setattr(hub, "HfApi", lambda: api)
    monkeypatch.setattr(hub, "hf_hub_download", download)
    setting = SimpleNamespace(HF_HUB_OFFLINE=False)
    monkeypatch.setattr(hub, "constants", setting, raising=False)
    with pytest.raises(UnknownNameError, match=r"Name or service not known.*not in the cache"):
        build("zoo:absent")
    assert not setting.HF_HUB_OFFLINE


def test_without_the_extra_the_error_says_so_and_names_the_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError) as error:
        build("zoo:absent")
    for part in ("pip install 'offmap[hub]'", "$OFFMAP_ZOO (not set)", "zoo/ of a clone", zoo.HUB):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../tiny", "a/b", "a\\b", "/tiny", ".hidden", "tiny\n", "tiny(x=1)"]
)
def test_names_do_not_lead_out_of_the_folder(name: str, network: nn.Module, hub: list[str]) -> None:
    zoo.add(".", "tiny", network, CARD)
    Path("zoo").mkdir()
    for use in (lambda: build(f"zoo:{name}"), lambda: zoo.add("zoo", name, network, CARD)):
        with pytest.raises(ArgumentError, match="no name of a trained network"):
            use()
    assert not list(Path("zoo").iterdir())
    assert not hub


@pytest.mark.parametrize(
    "spec",
    [
        *("os:system", "offmap.networks:resnet20", "mine.py:net", "zoo:tiny", "load_weights", 7),
        *(
            "__import__('os')",
            "wrn40_2(dropout=__import__('os').system('touch ran'))",
            ["resnet20"],
        ),
    ],
)
def test_a_card_chooses_no_code(network: nn.Module, spec: Any) -> None:
    Path("mine.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    zoo.add("zoo", "tiny", network, CARD)
    edit(Path("zoo"), network=spec)
    for use in (zoo.card, zoo.load, lambda name: normalization(f"zoo:{name}")):
        with pytest.raises(StoreError, match=r"tiny\.json.*(of this library|Expected `str`)"):
            use("tiny")
    with pytest.raises(StoreError):
        zoo.add("zoo", "new", network, {**CARD, "network": spec})
    assert not Path("ran").exists()
    assert not Path("zoo/new.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (file(sha256="0" * 64), "damaged, or not the file of its record"),
        (
            file(sha256="short"),
            r"tiny\.json does not hold .*files.*: make it anew with `offmap pub",
        ),
        (file(sha256=None), "does not hold .*`str`, got `null`.*files"),
        (file(name="../tiny.safetensors"), "does not hold what it must"),
        ({"files": {}}, "a card has one file, weights"),
        ({"files": None}, "missing required field `files`"),
        ({"network": None}, "missing required field `network`"),
        ({"surprise": 1}, "unknown field `surprise`"),
        ({"format": "offmap guard"}, "is no card record"),
        ({"version": 1}, "is of version 1.* make it anew with `offmap publish`"),
        ({"version": 3}, "needs a newer offmap"),
        ({"network": "resnet32"}, r"does not fit ResNet.*\n.*missing"),
        ({"network": "resnet20(classes=11)"}, r"linear\.weight: shape \(10, 64\), not \(11, 64\)"),
        ({"network": "resnet20(classes=10**9)"}, "network must be"),
        ({"network": "resnet20(classes=1000000000000)"}, "does not fit ResNet"),
        ({"network": "resnet20(classes=99999999999999999999999)"}, "seen a number beyond 64"),
        ({"network": "resnet20(colour=3)"}, "unexpected keyword argument 'colour'"),
        ({"parameters": 3}, "says 3 parameters, not 269722"),
        ({"parameters": "many"}, "Expected `int`, got `str` - at `\\$.parameters`"),
        ({"normalization": {"mean": [0.5]}}, "normalization must be"),
        ({"normalization": {"mean": [0.5, 0.5, 0.5], "std": [0.2]}}, "normalization must be"),
        ({"normalization": {"mean": [0.5], "std": [0]}}, "normalization must be"),
        ({"normalization": {"mean": ["x"], "std": [1]}}, "Expected `float`.*normalization"),
        ({"normalization": {"mean": [], "std": []}}, "normalization must be"),
        ({"normalization": {"per_image": False}}, "normalization must be"),
    ],
)
def test_cards_that_do_not_hold_are_refused(
    network: nn.Module, changes: dict[str, Any], message: str
) -> None:
    zoo.add("zoo", "tiny", network, CARD)
    edit(Path("zoo"), **changes)
    with pytest.raises(StoreError, match=message):
        build("zoo:tiny")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: text.replace("0.49", "NaN"),
        lambda text: text.replace("0.49", "1e999"),
        lambda text: "\udcff",
    ],
)
def test_damaged_cards_are_refused(network: nn.Module, damage: Callable[[str], str]) -> None:
    zoo.add("zoo", "tiny", network, CARD)
    path = Path("zoo/tiny.json")
    path.write_bytes(damage(path.read_text()).encode(errors="surrogateescape"))
    with pytest.raises(StoreError, match=r"tiny\.json"):
        build("zoo:tiny")


def test_weights_that_are_missing_or_changed_are_refused(network: nn.Module) -> None:
    path = zoo.add("zoo", "tiny", network, CARD)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged, or not the file of its record"):
        build("zoo:tiny")
    path.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        build("zoo:tiny")
    assert zoo.names() == []


@pytest.mark.parametrize("content", [b"", b"not tensors", b"\xff" * 64])
def test_a_right_hash_does_not_make_weights(network: nn.Module, content: bytes) -> None:
    path = zoo.add("zoo", "tiny", network, CARD)
    path.write_bytes(content)
    edit(Path("zoo"), **file(sha256=hashlib.sha256(content).hexdigest()))
    with pytest.raises(StoreError, match="cannot be read"):
        build("zoo:tiny")


def test_weights_of_another_network_are_refused(network: nn.Module) -> None:
    path = zoo.add("zoo", "tiny", network, CARD)
    save_file(digits_cnn().state_dict(), path)
    edit(Path("zoo"), **file(sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    with pytest.raises(StoreError, match=r"does not fit ResNet.*\n.*conv1\.weight: missing"):
        build("zoo:tiny")


@pytest.mark.parametrize("key", CARD)
def test_a_card_without_a_key_is_not_written(network: nn.Module, key: str) -> None:
    card = {k: v for k, v in CARD.items() if k != key}
    with pytest.raises(ArgumentError, match=f"lacks {key}"):
        zoo.add("zoo", "tiny", network, card)
    assert not Path("zoo").exists()


def test_what_json_cannot_hold_is_not_written(network: nn.Module) -> None:
    for accuracy in (float("nan"), torch.tensor(0.5)):
        with pytest.raises(ArgumentError, match="JSON"):
            zoo.add("zoo", "tiny", network, {**CARD, "accuracy": accuracy})
    with pytest.raises(StoreError, match="does not fit WideResNet"):
        zoo.add("zoo", "tiny", network, {**CARD, "network": "wrn40_2"})
    assert not Path("zoo").exists()


def test_whoever_is_killed_between_weights_and_card_leaves_nothing_that_loads_wrongly(
    monkeypatch: pytest.MonkeyPatch, network: nn.Module
) -> None:
    zoo.add("zoo", "tiny", network, CARD)
    monkeypatch.setattr(records, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    torch.manual_seed(1)
    with pytest.raises(KeyboardInterrupt):
        zoo.add("zoo", "tiny", resnet20(), CARD)
    with pytest.raises(StoreError, match="not the file of its record"):
        build("zoo:tiny")


def test_other_weights_are_not_loaded_over_the_zoos(network: nn.Module) -> None:
    zoo.add("zoo", "tiny", network, CARD)
    with pytest.raises(ArgumentError, match="brings its own weights"):
        build("zoo:tiny", weights="w.pt")


def test_the_cards_normalization_is_used_unless_another_is_given(network: nn.Module) -> None:
    zoo.add("zoo", "tiny", network, CARD)
    own = normalization_or_usual(None, "cifar10:test", "zoo:tiny")
    assert own == normalization("zoo:tiny")
    assert normalization_or_usual("mnist", "cifar10", "zoo:tiny").mean == (0.1307,)
    assert normalization_or_usual("none", "cifar10", "zoo:tiny").mean == (0.0,)
    assert normalization_or_usual(None, "mnist:test", "resnet20").mean == (0.1307,)
    assert normalization_or_usual("per_image", "mnist:test", "zoo:tiny").per_image
    zoo.add("zoo", "own", network, {**CARD, "normalization": {"per_image": True}})
    own = normalization_or_usual(None, "cifar10:test", "zoo:own")
    assert own == Normalization(per_image=True)


SPEC = "digits_cnn(classes=10)"


@pytest.fixture
def tiny() -> nn.Module:
    torch.manual_seed(0)
    made = digits_cnn(classes=10)
    channel = {"mean": [0.305], "std": [0.376]}
    zoo.add("zoo", "tiny", made, {**CARD, "network": SPEC, "normalization": channel})
    return made


def fit(model: str, *more: str) -> None:
    _run("fit", "--model", model, *more, "--data", "embedded:digits", "--detector", "entropy",
         "--out", "guard")  # fmt: skip


def _run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 0


def test_a_guard_of_a_zoo_network_is_rebuilt_on_its_record(tiny: nn.Module) -> None:
    fit("zoo:tiny")
    record = json.loads(Path("guard/guard.json").read_text())
    assert record["model"] == "zoo:tiny"
    assert record["normalization"] == {"mean": [0.305], "std": [0.376]}
    assert_equal(tiny, Opening().open("guard").network)
    # Where the zoo is not at hand, the network itself does: its weights lie in the guard.
    shutil.rmtree("zoo")
    with pytest.raises(UnknownNameError, match="zoo/ of a clone"):
        Opening().open("guard")
    assert_equal(tiny, Opening(SPEC).open("guard").network)


def test_a_guard_of_a_network_with_arguments_is_rebuilt_on_its_record(tiny: nn.Module) -> None:
    fit(SPEC, "--weights", "zoo/tiny.safetensors", "--normalize", "none")
    assert_equal(tiny, Opening().open("guard").network)


def test_a_guard_has_as_many_classes_as_the_checkpoint_of_its_network(tiny: nn.Module) -> None:
    """The network took them from the file, and whoever opened the guard did not."""
    fit("digits_cnn", "--weights", "zoo/tiny.safetensors", "--normalize", "none")
    assert_equal(tiny, Opening().open("guard").network)
    assert_equal(tiny, Opening("digits_cnn").open("guard").network)


def test_a_guards_record_chooses_no_code(tiny: nn.Module) -> None:
    Path("mine.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    fit("zoo:tiny")
    record = json.loads(Path("guard/guard.json").read_text())
    foreign = ["mine.py:net", "mine.py:net(x=1)", "os:system", "build", "resnet20(x=f())", None]
    for model in foreign:
        Path("guard/guard.json").write_text(json.dumps({**record, "model": model}))
        with pytest.raises(ArgumentError, match="give model="):
            Opening().open("guard")
    Path("allowed.py").write_text(
        "from offmap.networks import build\n\ndef net():\n    return build('zoo:tiny')\n"
    )
    Path("guard/guard.json").write_text(json.dumps({**record, "model": "allowed.py:net"}))
    assert_equal(tiny, offmap.load("guard", allow=["allowed.py:net"]).network)
    Path("guard/guard.json").write_text(json.dumps({**record, "model": "zoo:../tiny"}))
    with pytest.raises(ArgumentError, match="no name of a trained network"):
        Opening().open("guard")
    assert not Path("ran").exists()


def test_the_list_shows_networks_and_the_zoo(
    tiny: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    _run("list")
    text = capsys.readouterr().out
    below = text[text.index("\nNetworks") :]
    for name in ("digits_cnn", "mnist_cnn", "resnet18", "vgg16", "wrn40_2", "zoo:tiny"):
        assert name in below
    for name in ("load_weights", "build", "is_own", "factories", "VGG16"):
        assert f"  {name} " not in below
    shutil.rmtree("zoo")
    _run("list")
    assert "none at hand" in capsys.readouterr().out
