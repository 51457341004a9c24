"""The whole of ``offmap.evaluate`` against a bare forward loop over the same samples.

``python -m benchmarks.spine --weights FILE [--pairs 7] [--limit N] [--detectors msp ...]``, with
``$OFFMAP_DATA``

Measured, once the data is read: ``evaluate`` with every detector but KNN and those that read other
layers, fp32, CIFAR-10's 50,000 training images for fitting, its test split as 9,000 evaluated and
1,000 for calibration, six OOD sets; so fitting, scores, thresholds, metrics and intervals are all
inside. Against: the same images, each once, through the same network with the same normalisation,
batch size, layout and threads, under ``torch.inference_mode``, without a hook, and nothing kept but
the answers.
Bar: at most 1.30 times as long for the whole catalogue, and 1.10 for the twelve detectors of
``--detectors first``, on which the engine was first measured. KNN, whose search is work of its own,
and Gram are reported apart.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import offmap
from benchmarks import _cifar
from benchmarks._measure import interleaved
from offmap import Results
from offmap.detectors import detector, ordinary, taps_of

FIRST = (
    *("msp", "maxlogit", "energy", "entropy", "gen", "kluniform", "react", "mahalanobis"),
    *("relativemahalanobis", "residual", "vim", "neco"),
)


def main() -> None:
    parser = _cifar.parser(__doc__)
    parser.add_argument("--detectors", nargs="*", help="by default all; first: the twelve")
    options = _cifar.started(parser)
    network, sets = _cifar.network(options.weights), _cifar.read(options.limit)
    shared = {"batch_size": options.batch_size, "channels_last": not options.contiguous}
    names = options.detectors or [
        name for name in ordinary() if name != "knn" and not taps_of(detector(name))
    ]
    names = list(FIRST) if names == ["first"] else names
    print(f"{sum(map(len, sets.all)):,} samples; {len(names)} detectors: {', '.join(names)}")
    found = interleaved(
        ("evaluate", lambda: evaluate(network, sets, names, **shared)),
        ("bare loop", lambda: bare(network, sets, **shared)),
        options.pairs,
    )
    found.print("at most 1.10" if names == list(FIRST) else "at most 1.30")
    if not options.detectors:
        print_shares(evaluate(network, sets, [*names, "knn", "gram"], **shared))


def evaluate(
    network: nn.Module, sets: _cifar.Sets, detectors: list[str], **options: object
) -> Results:
    return offmap.evaluate(
        network,
        train=sets.train,
        id_test=sets.test,
        calibration=sets.calibration,
        ood=sets.ood,
        detectors=detectors,
        normalization=offmap.Normalization(_cifar.MEAN, _cifar.STD),
        show_progress=False,
        **options,
    )


@torch.inference_mode()
def bare(
    network: nn.Module, sets: _cifar.Sets, batch_size: int, channels_last: bool
) -> list[Tensor]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    scale, shift = _cifar.bare_normalization()
    answers = []
    for found in sets.all:
        for images in found.images.split(batch_size):
            x = images.float().mul_(scale).add_(shift).contiguous(memory_format=layout)
            answers.append(network(x).argmax(1))
    return answers


def print_shares(results: Results) -> None:
    """Seconds of each detector, fitting and scoring, in one run with KNN."""
    spent = dict(results.settings["seconds"])
    total = spent.pop("all")
    print(f"with KNN {total:.1f} s, of which KNN {spent['knn']:.1f} s, {spent['knn'] / total:.0%}")
    ordered = sorted(spent.items(), key=lambda item: -item[1])
    print("seconds by detector: " + ", ".join(f"{name} {s:.2f}" for name, s in ordered))


if __name__ == "__main__":
    main()
