"""Networks and the reading of foreign checkpoints."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from offmap.errors import ArgumentError, StoreError, UnknownNameError
from offmap.networks import DigitsCNN, build, load_weights, resnet20, resnet32, resnet44, resnet56


@pytest.mark.parametrize(
    ("make", "millions"), [(resnet20, 0.27), (resnet32, 0.46), (resnet44, 0.66), (resnet56, 0.85)]
)
def test_parameter_counts_are_the_papers(make: type[nn.Module], millions: float) -> None:
    """Table 6 of He et al. 2016."""
    count = sum(p.numel() for p in make().parameters())
    assert round(count / 1e6, 2) == millions


def test_resnet_shapes() -> None:
    assert resnet20(classes=7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert DigitsCNN(8)(torch.zeros(2, 1, 8, 8)).shape == (2, 8)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_foreign_checkpoints(tmp_path: Path, wrap: object, prefix: str) -> None:
    torch.manual_seed(0)
    network = DigitsCNN(4)
    state = {prefix + name: value for name, value in network.state_dict().items()}
    torch.save(wrap(state), tmp_path / "w.pt")  # type: ignore[operator]
    loaded = load_weights(DigitsCNN(4), tmp_path / "w.pt")
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_counters_that_old_files_lack_are_no_difference(tmp_path: Path) -> None:
    state = {k: v for k, v in resnet20().state_dict().items() if "num_batches" not in k}
    save_file(state, tmp_path / "w.safetensors")
    load_weights(resnet20(), tmp_path / "w.safetensors")


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    state = DigitsCNN(5).state_dict()
    state["extra"] = torch.zeros(1)
    del state["0.bias"]
    save_file(state, tmp_path / "w.safetensors")
    network = DigitsCNN(4)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(StoreError) as error:
        load_weights(network, tmp_path / "w.safetensors")
    for line in ("9.weight: shape (5, 64), not (4, 64)", "0.bias: missing", "extra: unexpected"):
        assert line in str(error.value)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("ran"),))  # what a hostile file might do


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Payload()}, tmp_path / "w.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Payload()))
    for name in ("w.pt", "plain.pkl"):
        with pytest.raises(StoreError, match="tensors alone"):
            load_weights(DigitsCNN(4), name)
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x02."])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError):
            load_weights(DigitsCNN(4), tmp_path / name)
    with pytest.raises(StoreError, match="no checkpoint at"):
        load_weights(DigitsCNN(4), tmp_path / "absent.pt")


def test_models_by_name(tmp_path: Path) -> None:
    assert isinstance(build("resnet20"), nn.Module)
    assert isinstance(build("offmap.networks:resnet20"), nn.Module)
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nnet = lambda: nn.Linear(2, 3)\nx = int\n"
    )
    assert isinstance(build(f"{tmp_path}/mine.py:net"), nn.Linear)
    with pytest.raises(ArgumentError, match=r"must return a torch\.nn\.Module"):
        build(f"{tmp_path}/mine.py:x")


@pytest.mark.parametrize(
    "spec", ["resnet21", "offmap.networks:no", "no.such.module:f", "absent.py:f"]
)
def test_unknown_models_are_refused(spec: str) -> None:
    with pytest.raises(UnknownNameError):
        build(spec)
