"""What PixMix costs beside a training step of WRN-40-2 on images of CIFAR's size.

``python -m benchmarks.pixmix [--pairs 7] [--threads 2] [--cpu-time]``

Measured: PixMix with fractals on a batch of 128 uint8 images (draws included), against a step of
SGD with the network in bfloat16 autocast and channels last on the same batch, normalised. Images
are random; the work does not depend on what they show. Bar: 0.15 ms an image, and 5 % of the step.
On a machine that does other things, ``--threads 1 --cpu-time`` counts processor time instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks._measure import arguments, interleaved, keep, print_settings, spread
from offmap.networks import wrn40_2
from offmap.training.fractals import fractals
from offmap.training.pixmix import PixMix

BATCH = 128
REPEATS = 5


def mixing(images: Tensor) -> Callable[[], None]:
    pixmix, generator = PixMix(fractals(1024, 36)), torch.Generator().manual_seed(0)

    def run() -> None:
        for _ in range(REPEATS):
            pixmix(images, generator)

    return run


def training(images: Tensor, labels: Tensor) -> Callable[[], None]:
    network = wrn40_2()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True)
    x = (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(network(x), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return run


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="of the processor, not the wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (BATCH, 3, 32, 32), generator=generator, dtype=torch.uint8)
    labels = torch.randint(10, (BATCH,), generator=generator)
    clock = time.process_time if options.cpu_time else time.perf_counter
    print_settings(batch=BATCH, threads=options.threads, clock=clock.__name__)
    ours = (f"{REPEATS} batches through PixMix", mixing(images))
    found = interleaved(ours, ("one training step", training(images, labels)), options.pairs, clock)
    mix, step = ([s / n for s in x] for x, n in ((found.a[1], REPEATS), (found.b[1], 1)))
    print(f"PixMix: {spread([1e3 * s / BATCH for s in mix], ' ms an image')}; bar <= 0.15")
    print(f"training step: {spread([1e3 * s for s in step], ' ms')}")
    share = [m / s for m, s in zip(mix, step, strict=True)]
    print(f"share of the step: {spread(share)}; bar <= 0.05")
    keep("PixMix / training step", share, "<= 0.05")


if __name__ == "__main__":
    main()
