"""The same evaluation by pytorch-ood 0.4.0, end to end, and whether the scores agree.

``python -m benchmarks.pytorch_ood --weights FILE [--pairs 7] [--limit N]``, with ``$OFFMAP_DATA``

Measured: twenty detectors (``DETECTORS``) fitted on CIFAR-10's training images and evaluated on its
test images against six OOD sets, data already read. Bar: ``offmap.evaluate`` is at least 8 times as
fast, and the scores of those that compute the same have Spearman correlation at least 0.9999.

pytorch-ood runs its own path: ``Detector.fit(loader)`` for the detectors that learn, then
``Benchmark.evaluate(detectors, cache=True)``. Its named benchmarks download their data, so a
subclass of its ``Benchmark`` holds ours; everything else is its code. It gets its best setting: one
list of detectors for one call, one encoder object for all (its cache goes by the object's id, so
``model.features`` written twice runs twice), images normalised beforehand, the same network,
layout, batch size, threads and precision. With ``--share-fit`` it also takes its training features
once (``extract_features``, then ``fit_features`` of each detector), which its documentation does
not lead to, but which its interface allows.

All twenty are of those whose logits or features its cache holds. KLMatching and TemperatureScaled
learn on calibration data here, the tenth of the test split that neither evaluates and that passes
our network besides, where theirs learn from the training images; OpenMax and NNGuide are other
formulas than theirs, as their pages say.

Its RMD adds 1e-6 to an undivided scatter, some 1e-11 of the mean variance, so ours has ``ridge=0``.
Its softmax rounds to float32 and its Entropy and GEN clip probabilities at 1e-7, which ours do not:
for MSP, Entropy and GEN the correlation is given as it is, and after the same rounding and clip.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import offmap
from benchmarks import _cifar
from benchmarks._measure import interleaved
from benchmarks._peers import PEERS, Benchmark, extract_features
from offmap import Results
from offmap.data import ImageSet

Scorer = Callable[[offmap.Activations], Tensor]
_SAME = "msp maxlogit energy entropy gen mahalanobis rmd gmm knn vim she fdbd nci pnml dice lts"
SAME = tuple(_SAME.split())
DETECTORS = (*SAME, "klmatching", "temperaturescaled", "openmax", "nnguide")


def _msp(acts: offmap.Activations) -> Tensor:
    return -acts.logits.softmax(1).amax(1)


def _entropy(acts: offmap.Activations) -> Tensor:
    p = acts.logits.softmax(1).clip(1e-7, 1)
    return -(p.log() * p).sum(1)


def _gen(acts: offmap.Activations) -> Tensor:
    p = acts.logits.softmax(1).clip(1e-7, 1 - 1e-7)
    return (p * (1 - p)).pow(0.1).sum(1)


# Their roundings, on our logits.
ROUNDED: dict[str, Scorer] = {"msp_rounded": _msp, "entropy_rounded": _entropy, "gen_rounded": _gen}


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


class InLayout(nn.Module):
    """A network that lays its images out as ours are laid out."""

    def __init__(self, network: nn.Module, layout: torch.memory_format) -> None:
        super().__init__()
        self.network = network
        self.layout = layout

    def forward(self, images: Tensor) -> Tensor:
        """What the network returns."""
        return self.network(images.contiguous(memory_format=self.layout))


class Theirs:
    """What a user of pytorch-ood writes: a model, its encoder, data and detectors."""

    def __init__(self, sets: _cifar.Sets, weights: str, options: argparse.Namespace) -> None:
        layout = torch.contiguous_format if options.contiguous else torch.channels_last
        head = _cifar.network(weights).linear
        body = _cifar.network(weights)
        body.linear = nn.Identity()
        self.model = InLayout(_cifar.network(weights), layout)
        self.encoder = InLayout(body, layout)
        self.head = head
        self.sets = {name: normalised(found, -1) for name, found in sets.all_ood.items()}
        self.train, self.test = normalised(sets.train), normalised(sets.test)
        self.options = options

    def detectors(self) -> dict[str, Any]:
        """New ones, under our names, of one model and one encoder."""
        made = {name: PEERS[name].make(self.head, self.head.in_features) for name in DETECTORS}
        for each in made.values():
            if hasattr(each, "model"):
                each.model = self.model
            else:
                each.encoder = self.encoder
        return made

    def run(self) -> dict[str, Any]:
        """Fit and evaluate; gives the fitted detectors."""
        detectors = {name: made.to("cpu") for name, made in self.detectors().items()}
        self.fit([made for made in detectors.values() if made.requires_fit])
        data = OurData(self.train, self.test, self.sets)
        loader = {"batch_size": self.options.batch_size}
        with torch.no_grad():
            data.evaluate(list(detectors.values()), loader_kwargs=loader, cache=True)
        return detectors

    def fit(self, detectors: list[Any]) -> None:
        """Each from the loader, or all from features extracted once."""
        if not self.options.share_fit:
            for made in detectors:
                made.fit(self.loader(self.train))
            return
        for model, fit in ((self.encoder, "fit_features"), (self.model, "fit_logits")):
            outputs, labels = extract_features(self.loader(self.train), model, "cpu")
            for made in detectors:
                if hasattr(made, fit):
                    getattr(made, fit)(outputs, labels)

    @torch.no_grad()
    def scores(self, detectors: dict[str, Any]) -> dict[str, Tensor]:
        """Scores of all evaluated samples in our order, for the comparison; not timed."""
        evaluated = [self.test, *self.sets.values()]
        features, logits = (
            torch.cat([outputs(model, self.loader(data)) for data in evaluated])
            for model in (self.encoder, self.model)
        )
        return {
            name: made.predict_logits(logits)
            if hasattr(made, "predict_logits")
            else made.predict_features(features)
            for name, made in detectors.items()
        }

    def loader(self, data: Dataset) -> DataLoader:
        return DataLoader(data, batch_size=self.options.batch_size)


def main() -> None:
    made = _cifar.parser(__doc__)
    made.add_argument("--share-fit", action="store_true", help="extract training features once")
    options = _cifar.started(made, "pytorch-ood", "scikit-learn")
    sets = _cifar.read(options.limit)
    other = Theirs(sets, options.weights, options)
    network = _cifar.network(options.weights)
    found = interleaved(
        ("pytorch-ood", other.run), ("offmap", lambda: ours(network, sets, options)), options.pairs
    )
    found.print("at least 8")
    results = ours(network, sets, options, **ROUNDED)
    print_correlations(results, other.scores(other.run()))


def ours(
    network: nn.Module, sets: _cifar.Sets, options: argparse.Namespace, **more: Scorer
) -> Results:
    return offmap.evaluate(
        network,
        train=sets.train,
        calibration=sets.calibration,
        id_test=sets.test,
        ood=sets.all_ood,
        detectors={
            **{name: PEERS[name].ours for name in DETECTORS},
            **more,
        },
        batch_size=options.batch_size,
        channels_last=not options.contiguous,
        normalization=offmap.Normalization(_cifar.MEAN, _cifar.STD),
        show_progress=False,
    )


def normalised(found: ImageSet, label: int | None = None) -> TensorDataset:
    """Images as the network takes them; OOD samples are labelled -1."""
    scale, shift = _cifar.bare_normalization()
    labels = found.labels if label is None else torch.full((len(found),), label)
    return TensorDataset(found.images.float().mul_(scale).add_(shift), labels)


@torch.no_grad()
def outputs(model: nn.Module, loader: DataLoader) -> Tensor:
    return torch.cat([model(images) for images, _ in loader])


def print_correlations(results: Results, other: dict[str, Tensor]) -> None:
    """Spearman's correlation over all evaluated samples, by detector."""
    print(f"Spearman correlation of the scores, bar 0.9999 for {', '.join(SAME)}:")
    for name, scores in other.items():
        line = f"  {name}: {correlation(results, name, scores):.6f}"
        if (alike := f"{name}_rounded") in ROUNDED:
            line += f"; rounded and clipped alike {correlation(results, alike, scores):.6f}"
        print(line)


def correlation(results: Results, name: str, scores: Tensor) -> float:
    of = results.scores[name]
    mine = np.concatenate([x for part, x in of.items() if part != "calibration"])
    return float(spearmanr(mine, scores).statistic)


if __name__ == "__main__":
    main()
