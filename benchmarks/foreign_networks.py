"""Networks of timm and transformers, from random weights: what of the library works on each.

It runs in an environment of its own, in which timm and transformers stand beside torch::

    python -m venv foreign
    foreign/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu
    foreign/bin/pip install -e . timm transformers
    foreign/bin/python -m benchmarks.foreign_networks [--only NAME ...]

A torchvision that is missing, or of another torch, is no obstacle: timm only needs it for pictures.

Of timm, 25 architectures with ten classes and images of their own size: MSP, KNN and Mahalanobis++
through a guard that is fitted, calibrated and called, the head that was found, and ViM or the
reason why not. Of transformers, five classifiers of images and four of text: a guard on batches
that are dicts, from fit to load. Bars: MSP on all, KNN and Mahalanobis++ on 24 of 25, ViM on 22 of
25; the guard on all nine.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import offmap
from offmap.errors import ChanceWarning, OffmapError

TIMM = (
    *("resnet18", "resnetv2_50x1_bit", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"),
    *("levit_128s", "efficientformer_l1", "convnext_atto", "mobilenetv3_small_100"),
    *("efficientnet_b0", "swin_tiny_patch4_window7_224", "densenet121", "regnety_002", "vgg11"),
    *("ghostnet_100", "inception_v3", "legacy_xception", "beit_base_patch16_224"),
    *("coatnet_nano_rw_224", "maxvit_tiny_rw_224", "mobilevit_xxs", "cait_xxs24_224"),
    *("eva02_tiny_patch14_224", "fastvit_t8", "tiny_vit_5m_224", "mixer_s16_224"),
)
CLASSES, BATCH = 10, 8
# Few samples, of few classes: neighbours and dimensions are few, too.
DETECTORS = ("MSP", "KNN(k=1)", "MahalanobisPP", "ViM(dim=4)")
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_SMALL |= {"intermediate_size": 64}
_MAPS = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]}
IMAGES: dict[str, dict[str, Any]] = {
    "ViT": _SMALL | {"image_size": 32, "patch_size": 8},
    "DeiT": _SMALL | {"image_size": 32, "patch_size": 8},
    "ConvNext": _MAPS,
    "Swin": {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1]}
    | {"num_heads": [2, 2], "window_size": 4},
    "ResNet": _MAPS | {"embedding_size": 8, "layer_type": "basic"},
}
_WORDS = {"vocab_size": 64, "max_position_embeddings": 32}
TEXT: dict[str, dict[str, Any]] = {
    "Bert": _SMALL | _WORDS,
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64} | _WORDS,
    "Roberta": _SMALL | _WORDS | {"pad_token_id": 0},
    "Electra": _SMALL | _WORDS | {"embedding_size": 32},
}


@dataclass
class Row:
    """What worked on one network: "" where it did, else the reason."""

    name: str
    head: str = ""
    msp: str = "not reached"
    knn: str = "not reached"
    mahalanobis: str = "not reached"
    vim: str = "not reached"
    guard: str = "not reached"
    seconds: float = 0.0

    def cells(self) -> list[str]:
        """The row of a table."""
        marks = [said(x) for x in (self.msp, self.knn, self.mahalanobis, self.vim, self.guard)]
        return [self.name, self.head, *marks, f"{self.seconds:.0f}"]


def said(reason: str) -> str:
    return reason or "yes"


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--only", nargs="+", help="some of the networks")
    made.add_argument("--seed", type=int, default=0)
    options = made.parse_args()
    warnings.simplefilter("ignore", ChanceWarning)  # random weights answer by chance
    wanted = [name for name in TIMM if not options.only or name in options.only]
    if dicts := [name for name in (*IMAGES, *TEXT) if not options.only or name in options.only]:
        _of_transformers(dicts, options.seed)
    if wanted:
        _of_timm(wanted, options.seed)


def _of_timm(names: list[str], seed: int) -> None:
    stub_torchvision()
    import timm

    print(f"\ntimm {timm.__version__}, torch {torch.__version__}, {CLASSES} classes, seed {seed}\n")
    head = ["network", "head", "MSP", "KNN", "Mahalanobis++", "ViM", "guard", "s"]
    print_row(head)
    print_row(["---"] * len(head))
    rows = [_tried(timm, name, seed) for name in names]
    totals = {
        "MSP": sum(not row.msp for row in rows),
        "head found": sum(not row.head.startswith("none") for row in rows),
        "KNN": sum(not row.knn for row in rows),
        "Mahalanobis++": sum(not row.mahalanobis for row in rows),
        "ViM": sum(not row.vim for row in rows),
        "guard": sum(not row.guard for row in rows),
    }
    print("\nof", len(rows), "-", ", ".join(f"{what}: {n}" for what, n in totals.items()))


def print_row(cells: list[str]) -> None:
    print(
        "| " + " | ".join(cell.replace("\n", " ").replace("|", "/") for cell in cells) + " |",
        flush=True,
    )


def _tried(timm: Any, name: str, seed: int) -> Row:
    torch.manual_seed(seed)
    network = timm.create_model(name, pretrained=False, num_classes=CLASSES)
    enliven(network)
    shape = timm.data.resolve_model_data_config(network)["input_size"]
    row, start = Row(name), time.perf_counter()
    try:
        try_images(row, network, [torch.randn(BATCH, *shape) for _ in range(2)])
    finally:
        row.seconds = time.perf_counter() - start
        print_row(row.cells())
    return row


def enliven(network: nn.Module) -> None:
    """Weights in place of zeros: a head that is zero at first tells no batch from another."""
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1 and not weight.any():
                nn.init.normal_(weight, std=0.02)


def try_images(row: Row, network: nn.Module, batches: list[Tensor]) -> None:
    """Detectors on what a network gives, and a guard of three of them."""
    data = [(x, torch.arange(len(x)) % 2) for x in batches]
    probe = offmap.Probe(network)
    with probe:
        acts = [(probe(x), y) for x, y in data]
    row.head = probe.head_name if probe.head is not None else f"none: {probe.why_no_head}"
    row.msp = reason_of(lambda: checked(network, batches[1], acts[1][0]))
    for detector, column in zip(DETECTORS[1:], ("knn", "mahalanobis", "vim"), strict=True):
        setattr(row, column, reason_of(lambda d=detector: scored(d, acts, probe.head)))
    row.guard = reason_of(lambda: guarded(network, data))


def reason_of(work: Callable[[], None]) -> str:
    """Nothing if it works, else the words of the error."""
    try:
        work()
    except OffmapError as error:
        return str(error)
    except Exception as error:
        return f"CRASH {type(error).__name__}: {error}"
    return ""


@torch.no_grad()
def checked(network: nn.Module, x: Tensor, acts: Any) -> None:
    """MSP is that of the network as it runs without a probe."""
    wanted = 1 - network.eval()(x).double().softmax(1).amax(1)
    torch.testing.assert_close(offmap.detector("MSP")(acts).double(), wanted, atol=1e-4, rtol=0)


def scored(name: str, acts: list[Any], head: Any) -> None:
    """Fit a detector on the activations of one batch, and score another."""
    detector = offmap.detector(name)
    offmap.fit([detector], train=acts[:1], head=head)
    scores = detector(acts[1][0])
    assert scores.isfinite().all()
    assert scores.unique().numel() > 1, "all scores are equal"


def guarded(network: nn.Module, data: list[Any]) -> None:
    """A guard that is fitted, calibrated and called."""
    guard = offmap.Guard(network, list(DETECTORS[:3]))
    guard.fit(data[:1]).calibrate(data[1:], alarm_rate=0.5)
    assert len(guard(data[0][0])) == BATCH


def guards_of_dicts(network: nn.Module, data: list[dict[str, Tensor]]) -> str | None:
    """A guard on batches that are dicts, from fit to load; the name of the head."""
    guard = offmap.Guard(network, list(DETECTORS))
    guard.fit(data[:1]).calibrate(data[1:], alarm_rate=0.5)
    inputs = {name: x for name, x in data[0].items() if name != "labels"}
    verdict = guard(inputs)
    with tempfile.TemporaryDirectory() as folder:
        guard.save(folder)
        again = offmap.load(folder, network)(inputs)
    assert torch.equal(again.scores, verdict.scores)
    return guard.probe.head_name


def _of_transformers(wanted: list[str], seed: int) -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    print(f"\ntransformers {transformers.__version__}, torch {torch.__version__}, seed {seed}\n")
    print_row(["network", "batch", "head", "guard"])
    print_row(["---"] * 4)
    good = sum(_tried_dicts(transformers, name, seed) for name in wanted)
    print(f"\nof {len(wanted)}: guard {good}")


def _tried_dicts(transformers: Any, name: str, seed: int) -> bool:
    torch.manual_seed(seed)
    text = name in TEXT
    arguments = (TEXT if text else IMAGES)[name] | {"num_labels": CLASSES}
    config = getattr(transformers, f"{name}Config")(**arguments)
    kind = "Sequence" if text else "Image"
    network = getattr(transformers, f"{name}For{kind}Classification")(config)
    data = [sentences() if text else pictures() for _ in range(2)]
    found: list[Any] = []
    reason = reason_of(lambda: found.append(guards_of_dicts(network, data)))
    print_row([name, ", ".join(data[0]), *map(str, found or ["not reached"]), said(reason)])
    return not reason


def pictures() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(BATCH, 3, 32, 32), "labels": torch.arange(BATCH) % 2}


def sentences() -> dict[str, Tensor]:
    """Tokens of several lengths, padded."""
    mask = (torch.arange(8) < torch.arange(BATCH)[:, None] % 5 + 4).long()
    words = torch.randint(1, 60, (BATCH, 8)) * mask
    return {"input_ids": words, "attention_mask": mask, "labels": torch.arange(BATCH) % 2}


class Stub(ModuleType):
    """A module whose every name is an empty class, but for those that say what it is."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Names(name, (), {})


class Names(type):
    """Of an empty class, whose attributes are their own names."""

    def __getattr__(cls, name: str) -> str:
        return f"{cls.__name__}.{name}"


class StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torchvision and all in it as stubs."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> ModuleType:
        return Stub(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def stub_torchvision() -> None:
    """Stand-ins, where there is no torchvision: timm asks it for names when it is imported."""
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(StubFinder())


if __name__ == "__main__":
    main()
