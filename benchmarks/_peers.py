"""Detectors that pytorch-ood 0.4.0 has too, with equal arguments, on features alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from types import ModuleType
from typing import Any

from torch import Tensor, nn

import offmap
from offmap.activations import Batch, Tap

__all__ = ["PEERS", "Benchmark", "Data", "Peer", "Run", "extract_features"]

K = 50
POSITIONS = 16  # of a map, where layers are read
Run = Callable[[], Any]


class _Stub(ModuleType):
    """A module in which every name is a class."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        inside = sys.modules.get(f"{self.__name__}.{name}")
        return inside or type(name, (), {"__init__": lambda *args, **kwargs: None})


def stub_torchvision() -> None:
    """Stand in for what pytorch-ood imports throughout and uses nothing of here."""
    transforms, datasets = (".transforms", ".transforms.functional"), (".datasets",)
    for name in ("", *transforms, *datasets, ".datasets.utils", ".models", ".models.resnet"):
        sys.modules[f"torchvision{name}"] = _Stub(f"torchvision{name}")


stub_torchvision()
try:
    from pytorch_ood import detector as theirs
    from pytorch_ood.benchmark import Benchmark
    from pytorch_ood.utils import extract_features
except ImportError as error:
    raise SystemExit(
        f"{error}: in an environment of its own, pip install pytorch-ood==0.4.0 --no-deps (without "
        "--no-deps it brings a torchvision that must match the torch build)"
    ) from None


@dataclass(frozen=True)
class Data:
    """What both libraries get.

    Args:
        features: of training, ``(n, d)``.
        logits: of the head on them.
        labels: of these.
        queries: features to score.
        query_logits: of the head on them.
        head: linear.
    """

    features: Tensor
    logits: Tensor
    labels: Tensor
    queries: Tensor
    query_logits: Tensor
    head: nn.Linear

    def batches(self, layers: bool) -> Iterator[Batch]:
        """The training data as a loader gives them."""
        parts = (x.split(1000) for x in (self.features, self.logits, self.labels))
        for h, z, y in zip(*parts, strict=True):
            yield activations(h, z, layers), y


def activations(features: Tensor, logits: Tensor, layers: bool) -> offmap.Activations:
    """Of one batch, with the features as a map of a layer where layers are read."""
    tap = Tap(":stages", "gram")
    return offmap.Activations(logits, features, {tap.key(): tap(_maps(features))} if layers else {})


# What theirs reads: the methods that fit and score, and the form of features or logits they take.
FORMS: dict[str, tuple[str, str]] = {
    "logits": ("fit_logits", "predict_logits"),
    "features": ("fit_features", "predict_features"),
    "shaped": ("fit_feature_maps", "predict_feature_maps"),  # features as they are
    "maps": ("", "predict_feature_maps"),  # features as maps of one position
    "layers": ("fit", "predict"),  # features as maps of several, from a loader
    "inputs": ("", "predict"),  # features as the inputs of the head
}


@dataclass(frozen=True)
class Peer:
    """One detector of both.

    Args:
        ours: as offmap writes it.
        make: one of theirs, of the head and the width of the features.
        reads: of ``FORMS``.
        sources: of what ours learns.
    """

    ours: str
    make: Callable[[nn.Linear, int], Any]
    reads: str = "features"
    sources: tuple[str, ...] = ("train",)

    @property
    def learns(self) -> bool:
        """Whether there is a fit to be timed: not where only a head is kept."""
        return bool(offmap.detector(self.ours).stages)

    def their_runs(self, data: Data) -> tuple[Run, Run]:
        """Fit and score of a new one of theirs, each in one call."""
        made = self.make(data.head, data.queries.shape[1])
        fit, score = FORMS[self.reads]
        x, q = self._form(data.features, data.logits), self._form(data.queries, data.query_logits)
        what = (x, data.labels)
        if self.reads == "layers":
            what = (list(zip(x.split(1000), data.labels.split(1000), strict=True)),)
        return lambda: getattr(made, fit)(*what) if fit else None, lambda: getattr(made, score)(q)

    def _form(self, features: Tensor, logits: Tensor) -> Tensor:
        if self.reads == "logits":
            return logits
        if self.reads == "layers":
            return _maps(features)
        return features[:, :, None, None] if self.reads == "maps" else features

    def our_runs(self, data: Data) -> tuple[Run, Run]:
        """Fit and score of a new one of ours: in batches of 1,000, and in one."""
        made, layers = offmap.detector(self.ours), self.reads == "layers"
        head = offmap.Head(data.head.weight.detach(), data.head.bias.detach())
        sources = {source: lambda: data.batches(layers) for source in self.sources}
        if len(sources) > 1:  # theirs sets a tenth of the training data aside
            sources["calibration"] = lambda: islice(
                data.batches(layers), max(len(data.labels) // 10_000, 1)
            )

        def fit() -> None:
            if made.learns:
                made.fit(**sources, head=head)

        def score() -> Tensor:
            return made.score(activations(data.queries, data.query_logits, layers))

        return fit, score


def _maps(features: Tensor) -> Tensor:
    return features.unflatten(1, (-1, 4, POSITIONS // 4))


def _of_maps(head: nn.Linear) -> nn.Module:
    return nn.Sequential(nn.Flatten(1), head)


# By our names; equal arguments where the defaults differ.
PEERS: dict[str, Peer] = {
    "msp": Peer("msp", lambda head, d: theirs.MaxSoftmax(None), "logits"),
    "maxlogit": Peer("maxlogit", lambda head, d: theirs.MaxLogit(None), "logits"),
    "energy": Peer("energy", lambda head, d: theirs.EnergyBased(None), "logits"),
    "entropy": Peer("entropy", lambda head, d: theirs.Entropy(None), "logits"),
    "gen": Peer("gen", lambda head, d: theirs.GEN(None, M=100), "logits"),
    "klmatching": Peer(
        "klmatching", lambda head, d: theirs.KLMatching(None), "logits", ("calibration",)
    ),
    "temperaturescaled": Peer(
        "temperaturescaled",
        lambda head, d: theirs.TemperatureScaling(None),
        "logits",
        ("calibration",),
    ),
    "openmax": Peer(
        "OpenMax(tail=25)", lambda head, d: theirs.OpenMax(None, tailsize=25), "logits"
    ),
    "mahalanobis": Peer("Mahalanobis(ridge=0.0)", lambda head, d: theirs.Mahalanobis(None)),
    "rmd": Peer("RelativeMahalanobis(ridge=0.0)", lambda head, d: theirs.RMD(None)),
    "gmm": Peer("ClassGaussian()", lambda head, d: theirs.GMM(None)),
    "knn": Peer(f"KNN({K})", lambda head, d: theirs.KNN(None, k=K)),
    "vim": Peer("vim", lambda head, d: theirs.ViM(None, d // 2, head.weight, head.bias)),
    "she": Peer("she", lambda head, d: theirs.SHE(None, head)),
    "nnguide": Peer("NNGuide(share=1.0, bank=50000)", lambda head, d: theirs.NNGuide(None, head)),
    "fdbd": Peer("fdbd", lambda head, d: theirs.fDBD(None, head)),
    "nci": Peer("nci", lambda head, d: theirs.NCI(None, head)),
    "pnml": Peer("pnml", lambda head, d: theirs.PNML(None, head)),
    "mcm": Peer("mcm", lambda head, d: theirs.MCM(None, head.weight.detach())),
    "dice": Peer("dice", lambda head, d: theirs.DICE(None, head.weight, head.bias, p=0.9)),
    "lts": Peer("lts", lambda head, d: theirs.LTS(None, head)),
    "react": Peer("react", lambda head, d: theirs.ReAct(None, head), "shaped"),
    "vra": Peer("vra", lambda head, d: theirs.VRA(None, head), "shaped"),
    "ashs": Peer(
        "ASHS(Energy(), quantile=0.9)",
        lambda head, d: theirs.ASH(None, _of_maps(head), "ash-s", 0.9),
        "maps",
    ),
    "ashp": Peer(
        "ASHP(Energy(), quantile=0.9)",
        lambda head, d: theirs.ASH(None, _of_maps(head), "ash-p", 0.9),
        "maps",
    ),
    "ashb": Peer(
        "ASHB(Energy(), quantile=0.9)",
        lambda head, d: theirs.ASH(None, _of_maps(head), "ash-b", 0.9),
        "maps",
    ),
    "scale": Peer(
        "SCALE(Energy(), quantile=0.85)",
        lambda head, d: theirs.SCALE(None, _of_maps(head), 0.85),
        "maps",
    ),
    "gram": Peer(
        "gram",
        lambda head, d: theirs.Gram(
            _of_maps(head), [nn.Identity()], head.out_features, range(1, 11)
        ),
        "layers",
        ("train", "calibration"),
    ),
    "gradnorm": Peer(
        "gradnorm", lambda head, d: theirs.GradNorm(head, lambda name: "weight" in name), "inputs"
    ),
}
