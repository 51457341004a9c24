"""Every score of an ensemble by ``evaluate``, against the bare forward passes of its members.

Five ResNet-20 with random weights on random images: neither changes what a pass costs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import offmap
from benchmarks._measure import arguments, interleaved, print_settings
from offmap.data import ImageSet
from offmap.networks import Ensemble, resnet20

MEMBERS, IMAGES, BATCH = 5, 2560, 64
SCORES = [
    *("maxprobability", "totalentropy", "expectedentropy", "mutualinformation"),
    *("MemberMean(MSP())", "MemberMean(Energy())"),
]
NORMALIZATION = offmap.Normalization((0.5,), (0.25,))


def main() -> None:
    options = arguments(__doc__, pairs=7).parse_args()
    print_settings(members=MEMBERS, images=2 * IMAGES, batch=BATCH, precision="fp32")
    torch.manual_seed(0)
    ensemble = Ensemble([resnet20() for _ in range(MEMBERS)]).eval()
    ensemble.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    known, unknown = (images(seed) for seed in (0, 1))
    found = interleaved(
        ("evaluate", lambda: evaluate(ensemble, known, unknown)),
        ("bare members", lambda: bare(ensemble, known, unknown)),
        options.pairs,
    )
    found.print("at most 1.05")


def images(seed: int) -> ImageSet:
    drawn = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (IMAGES, 3, 32, 32), generator=drawn, dtype=torch.uint8)
    return ImageSet(f"random {seed}", pixels)


def evaluate(ensemble: nn.Module, known: ImageSet, unknown: ImageSet) -> offmap.Results:
    return offmap.evaluate(
        ensemble,
        id_test=known,
        ood={"unknown": unknown},
        detectors=SCORES,
        batch_size=BATCH,
        normalization=NORMALIZATION,
        show_progress=False,
    )


@torch.inference_mode()
def bare(ensemble: Ensemble, *sets: ImageSet) -> list[Tensor]:
    logits = []
    for each in sets:
        for batch, _ in each.batches(BATCH):
            x = NORMALIZATION(batch).contiguous(memory_format=torch.channels_last)
            logits += [member(x) for member in ensemble.members]
    return logits


if __name__ == "__main__":
    main()
