"""Training through recipes and Lightning, against a plain loop written by hand.

``python -m benchmarks.training [--pairs 7] [--network resnet20] [--images 5120]``

Both train the same network on the same generated images for one epoch: batch 128, bf16 autocast,
channels last, SGD with Nesterov momentum and one cycle, kornia's crop and flip, uint8 images in
memory. Ours also validates on 128 images, and writes checkpoint and figures. Bar: at least 0.95 of
the throughput.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from kornia import augmentation as k
from torch.nn import functional as F

from benchmarks._measure import arguments, interleaved, print_settings
from offmap.data import ImageSet
from offmap.networks import build
from offmap.training import Recipe, Sets, train

BATCH = 128


def made(count: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator).byte()
    return ImageSet("generated", images, torch.arange(count) % 10)


def ours(recipe: Recipe, sets: Sets) -> Callable[[], None]:
    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            train(recipe, Path(folder) / "run", sets=sets, show_progress=False)

    return run


def plain(recipe: Recipe, data: ImageSet) -> Callable[[], None]:
    """What somebody writes who knows these tricks and wants nothing else."""
    assert data.labels is not None
    labels = data.labels

    def run() -> None:
        network = build(recipe.network)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(
            network.parameters(), recipe.lr, 0.9, weight_decay=5e-4, nesterov=True
        )
        steps = len(data) // BATCH
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.lr, steps, cycle_momentum=False
        )
        crop, flip = k.RandomCrop((32, 32), padding=4), k.RandomHorizontalFlip()
        network.train()
        for rows in torch.randperm(len(data)).split(BATCH)[:steps]:
            x = (flip(crop(data.images[rows].float() / 255)) - 0.5) / 0.25
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(x.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()

    return run


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--images", type=int, default=5120)
    options = parser.parse_args()
    print_settings(
        ("lightning", "kornia"),
        threads=torch.get_num_threads(),
        batch=BATCH,
        network=options.network,
        images=options.images,
    )
    data = made(options.images)
    recipe = Recipe(
        network=options.network,
        data="generated",
        normalization="0.5/0.25",
        crop=4,
        flip=True,
        epochs=1,
        batch_size=BATCH,
    )
    sets = Sets(data, made(BATCH))
    loops = interleaved(
        ("plain loop", plain(recipe, data)), ("offmap.training", ours(recipe, sets)), options.pairs
    )
    loops.print(">= 0.95 (throughput of ours to that of the plain loop)")


if __name__ == "__main__":
    main()
