"""Networks of the studies, and the reading of models that users and others have trained."""

from offmap.networks.checkpoint import load_weights
from offmap.networks.digits import DigitsCNN
from offmap.networks.model import build
from offmap.networks.resnet import ResNet, resnet20, resnet32, resnet44, resnet56
from offmap.networks.wide_resnet import WideResNet, wrn10_1, wrn40_2, wrn40_4

__all__ = [
    "DigitsCNN",
    "ResNet",
    "WideResNet",
    "build",
    "load_weights",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "wrn10_1",
    "wrn40_2",
    "wrn40_4",
]
