"""The same evaluation by pytorch-ood 0.4.0, end to end, and whether the scores agree.

``python -m benchmarks.pytorch_ood --weights FILE [--pairs 7] [--limit N]``, with ``$OFFMAP_DATA``

Measured: MSP, MaxLogit, Energy, Entropy, GEN, KNN, RMD and ViM fitted on CIFAR-10's training images
and evaluated on its test images against six OOD sets, data already read. Bar: ``offmap.evaluate``
is at least 3.5 times as fast, and each detector's scores have Spearman correlation at least 0.9999.

pytorch-ood runs its own path: ``Detector.fit(loader)`` for the three detectors that learn, then
``Benchmark.evaluate(detectors, cache=True)``. Its named benchmarks download their data, so a
subclass of its ``Benchmark`` holds ours; everything else is its code. It gets its best setting: one
list of detectors for one call, one encoder object for all (its cache goes by the object's id, so
``model.features`` written twice runs twice), images normalised beforehand, the same network,
layout, batch size, threads and precision. With ``--share-fit`` it also takes its training features
once (``extract_features``, then ``fit_features`` of each detector), which its documentation does
not lead to, but which its interface allows.

Its RMD adds 1e-6 to an undivided scatter, some 1e-11 of the mean variance, so ours has ``ridge=0``.
Its softmax rounds to float32 and its Entropy and GEN clip probabilities at 1e-7, which ours do not:
for MSP, Entropy and GEN the correlation is given as it is, and after the same rounding and clip.

pytorch-ood imports torchvision throughout and uses nothing of it here; a stub stands in for it.
"""

from __future__ import annotations

import sys
from types import ModuleType

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import offmap
from benchmarks import _cifar
from benchmarks._measure import interleaved
from offmap import Results

K, DIM = 50, 32


class _Stub(ModuleType):
    """A module in which every name is a class."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        inside = sys.modules.get(f"{self.__name__}.{name}")
        return inside or type(name, (), {"__init__": lambda *args, **kwargs: None})


for _name in ("", ".transforms", ".transforms.functional", ".datasets", ".datasets.utils"):
    sys.modules[f"torchvision{_name}"] = _Stub(f"torchvision{_name}")
for _name in (".models", ".models.resnet"):
    sys.modules[f"torchvision{_name}"] = _Stub(f"torchvision{_name}")
try:
    from pytorch_ood import detector as theirs
    from pytorch_ood.benchmark import Benchmark
    from pytorch_ood.utils import extract_features
except ImportError as error:
    raise SystemExit(
        f"{error}: in an environment of its own, pip install pytorch-ood==0.4.0 --no-deps (without "
        "--no-deps it brings a torchvision that must match the torch build)"
    ) from None


class OurData(Benchmark):
    """A benchmark of pytorch-ood over sets that are already here, as its own subclasses are."""

    def __init__(self, train: Dataset, test: Dataset, ood: dict[str, Dataset]) -> None:
        self.train, self.test, self.oods = train, test, list(ood.values())
        self.ood_names = list(ood)

    def train_set(self) -> Dataset:
        """ID training data."""
        return self.train

    def test_sets(self, known: bool = True, unknown: bool = True) -> list[Dataset]:
        """ID test data joined with each OOD set."""
        return [self.test + ood for ood in self.oods]


class Runner:
    """pytorch-ood on the network: what a user of it would write once."""

    def __init__(self, network: nn.Module, *, batch_size: int, channels_last: bool) -> None:
        self.network = network
        self.batch_size = batch_size
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model = nn.Sequential(_Layout(self.layout), network)
        body = [m for name, m in network.named_children() if name != "linear"]
        self.encoder = nn.Sequential(_Layout(self.layout), _Body(network))
        assert len(body) == 5

    def loader(self, data: Dataset) -> DataLoader:
        return DataLoader(data, batch_size=self.batch_size)
