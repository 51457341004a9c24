"""ONNX Runtime on an exported guard against ONNX Runtime on the bare network.

``python -m benchmarks.export --weights FILE [--pairs 31] [--threads N]``, with ``$OFFMAP_DATA``

Measured: the graph that ``offmap.export`` wrote of ResNet-20 with ViM, fitted on CIFAR-10's 50,000
training images and calibrated on 1,000: uint8 images in; label, score, p-value and decision out.
Against: the network alone, exported by ``torch.onnx.export`` with the same normalisation inside:
the same uint8 images in, logits out. Same runtime, threads and batches, runs in turn.
Bar: at most 1.05 times as long, for batches of 1 and of 256.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import _cifar
from benchmarks._measure import interleaved
from offmap import Guard, Normalization
from offmap.guard.export import export

# Calls a run, by batch size: short runs, so that both of a pair meet the same machine.
CALLS = {1: 100, 256: 2}


def main() -> None:
    made = _cifar.parser(__doc__, pairs=31)
    options = _cifar.started(made, "onnx", "onnxscript", "onnxruntime")
    network, images = _cifar.network(options.weights), _cifar.load("cifar10:test", 2000).images
    with tempfile.TemporaryDirectory() as folder:
        guarded, bare = Path(folder) / "guard.onnx", Path(folder) / "network.onnx"
        export(fitted(network, options.limit), guarded, example=images[:64])
        export_bare(network, images[:2], bare)
        sizes = [f"{path.stem} {path.stat().st_size / 1024:.0f} KiB" for path in (guarded, bare)]
        print("; ".join(sizes))
        for size, calls in CALLS.items():
            batches = [part.numpy() for part in images.split(size)[:calls]]
            print(f"batch {size}, {len(batches)} calls a run")
            found = interleaved(
                ("guard", runner(guarded, batches, options.threads)),
                ("bare network", runner(bare, batches, options.threads)),
                options.pairs,
            )
            found.print("at most 1.05")


def fitted(network: nn.Module, limit: int | None) -> Guard:
    guard = Guard(network, "vim", normalization=Normalization(_cifar.MEAN, _cifar.STD))
    calibration, _ = _cifar.load("cifar10:test", limit).split(0.1)
    guard.fit(_cifar.load("cifar10:train", limit), show_progress=False)
    return guard.calibrate(calibration, show_progress=False)


class Bare(nn.Module):
    """The network after its normalisation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        scale, shift = _cifar.bare_normalization()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.float() * self.scale + self.shift)


def export_bare(network: nn.Module, images: Tensor, path: Path) -> None:
    batch = {0: torch.export.Dim("batch")}
    program = torch.onnx.export(
        Bare(network).eval(),
        (images,),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=(batch,),
        dynamo=True,
        verbose=False,
    )
    program.save(str(path))


def runner(path: Path, batches: list[Any], threads: int | None) -> Callable[[], object]:
    """Run every batch once."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(str(path), options)
    return lambda: [session.run(None, {"images": batch}) for batch in batches]


if __name__ == "__main__":
    main()
