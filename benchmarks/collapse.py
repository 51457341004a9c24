"""A record of NC1 to NC5, against one bare forward pass over the same images.

ResNet-18 of half the width with random weights, on random images: neither changes what a pass
costs. The classes are drawn too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import offmap
from benchmarks._measure import arguments, interleaved, print_settings
from offmap.data import ImageSet
from offmap.evaluation.collapse import Collapse, collapse
from offmap.networks import resnet18

TRAIN, OOD, BATCH = 4096, 1024, 128
NORMALIZATION = offmap.Normalization((0.5,), (0.25,))


def main() -> None:
    options = arguments(__doc__, pairs=7).parse_args()
    print_settings(train=TRAIN, ood=f"2 x {OOD}", batch=BATCH, precision="fp32")
    torch.manual_seed(0)
    network = resnet18(width=0.5, dropout=0.5).eval()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train, near, far = images(TRAIN, 0), images(OOD, 1), images(OOD, 2)
    found = interleaved(
        ("record", lambda: record(network, train, near, far)),
        ("bare forward", lambda: bare(network, train, near, far)),
        options.pairs,
    )
    found.print("at most 1.1")


def images(count: int, seed: int) -> ImageSet:
    drawn = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=drawn, dtype=torch.uint8)
    return ImageSet(f"random {seed}", pixels, torch.randint(0, 10, (count,), generator=drawn))


def record(network: nn.Module, train: ImageSet, near: ImageSet, far: ImageSet) -> Collapse:
    return collapse(
        network,
        train,
        ood={"near": near, "far": far},
        batch_size=BATCH,
        normalization=NORMALIZATION,
        show_progress=False,
    )


@torch.inference_mode()
def bare(network: nn.Module, *sets: ImageSet) -> list[Tensor]:
    logits = []
    for each in sets:
        for batch, _ in each.batches(BATCH):
            x = NORMALIZATION(batch).contiguous(memory_format=torch.channels_last)
            logits.append(network(x))
    return logits


if __name__ == "__main__":
    main()
