"""Networks of the studies, and the reading of models that users and others have trained."""

from offmap.networks import zoo
from offmap.networks.anchors import AnchorHead
from offmap.networks.checkpoint import load_weights
from offmap.networks.densenet import DenseNet, densenet_bc100
from offmap.networks.digits import DigitsCNN, digits_cnn
from offmap.networks.ensemble import Ensemble
from offmap.networks.letters import LettersCNN, letters_cnn
from offmap.networks.libraries import build_of_library, is_of_library
from offmap.networks.library import anchor_head, ensemble, factories, is_own
from offmap.networks.mc_dropout import FixedDropout, mc_dropout
from offmap.networks.mnist import MnistCNN, mnist_cnn
from offmap.networks.model import build
from offmap.networks.resnet import ResNet, resnet20, resnet32, resnet44, resnet56
from offmap.networks.resnet18 import ResNet18, resnet18
from offmap.networks.vgg import VGG16, vgg16
from offmap.networks.wide_resnet import WideResNet, wrn10_1, wrn40_2, wrn40_4
from offmap.networks.zero_shot import ZeroShot, zero_shot

__all__ = [
    "VGG16",
    "AnchorHead",
    "DenseNet",
    "DigitsCNN",
    "Ensemble",
    "FixedDropout",
    "LettersCNN",
    "MnistCNN",
    "ResNet",
    "ResNet18",
    "WideResNet",
    "ZeroShot",
    "anchor_head",
    "build",
    "build_of_library",
    "densenet_bc100",
    "digits_cnn",
    "ensemble",
    "factories",
    "is_of_library",
    "is_own",
    "letters_cnn",
    "load_weights",
    "mc_dropout",
    "mnist_cnn",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "vgg16",
    "wrn10_1",
    "wrn40_2",
    "wrn40_4",
    "zero_shot",
    "zoo",
]
