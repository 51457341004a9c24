"""What a guard adds to the bare network: ResNet-20 on CIFAR-10, at batch 256 and batch 1.

``python -m benchmarks.guard --weights FILE [--pairs 7] [--detector vim] [--sizes 256 1]``

With ``$OFFMAP_DATA``.

Measured: a calibrated guard on uint8 images (features, score, p-value, decision) against the same
network under ``torch.no_grad`` on the same images, normalised by hand in the same layout. Bar: at
most 1.03 at batch 256 and 1.12 at batch 1; KNN with a bank of 10,000 is reported without a bar.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import offmap
from benchmarks import _cifar
from benchmarks._measure import interleaved

REPEATS = {256: 4, 1: 200}
BARS = {256: "<= 1.03", 1: "<= 1.12"}


def bare(network: nn.Module, images: Tensor, repeats: int) -> Callable[[], None]:
    scale, shift = _cifar.bare_normalization()

    def run() -> None:
        with torch.no_grad():
            for _ in range(repeats):
                x = (images.float() * scale + shift).contiguous(memory_format=torch.channels_last)
                network(x).argmax(1)

    return run


def guarded(guard: offmap.Guard, images: Tensor, repeats: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(repeats):
            guard(images)

    return run


def main() -> None:
    parser = _cifar.parser(__doc__)
    parser.add_argument("--detector", nargs="*", default=["vim", "KNN(bank=10000)"])
    parser.add_argument("--sizes", nargs="*", type=int, default=[256, 1], help="256 and 1")
    options = _cifar.started(parser)
    network = _cifar.network(options.weights)
    train = _cifar.load("cifar10:train", options.limit)
    test = _cifar.load("cifar10:test", 1256)
    for detector in options.detector:
        normalization = offmap.Normalization(_cifar.MEAN, _cifar.STD)
        guard = offmap.Guard(network, detector, normalization=normalization)
        guard.fit(train).calibrate(test.subset(torch.arange(1000)))
        for size in options.sizes:
            repeats = REPEATS[size]
            images = test.images[1000 : 1000 + size]
            ours = (f"guard with {detector}", guarded(guard, images, repeats))
            theirs = ("bare network", bare(network, images, repeats))
            print(f"batch {size}, {repeats} batches a run")
            bar = BARS[size] if detector != "KNN(bank=10000)" else "none"
            interleaved(ours, theirs, options.pairs).print(bar)


if __name__ == "__main__":
    main()
