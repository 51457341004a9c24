"""The networks of this library by name: those that a record or a card may ask for."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import nn

from offmap._utils.arguments import whole
from offmap._utils.spec import Spec, parse
from offmap.errors import ArgumentError, UnknownNameError
from offmap.networks.anchors import AnchorHead
from offmap.networks.densenet import densenet_bc100
from offmap.networks.digits import digits_cnn
from offmap.networks.ensemble import Ensemble
from offmap.networks.letters import letters_cnn
from offmap.networks.mnist import mnist_cnn
from offmap.networks.resnet import resnet20, resnet32, resnet44, resnet56
from offmap.networks.resnet18 import resnet18
from offmap.networks.vgg import vgg16
from offmap.networks.wide_resnet import wrn10_1, wrn40_2, wrn40_4

_LARGEST_ENSEMBLE = 100


def anchor_head(*, network: str = "mnist_cnn", magnitude: float = 10.0) -> AnchorHead:
    """A network of this library under class anchors: 228,120 parameters around ``mnist_cnn``."""
    return AnchorHead(_build_inner(network), magnitude=magnitude)


def ensemble(*, network: str = "vgg16(width=0.25)", members: int = 5) -> Ensemble:
    """Several networks of one kind: 4,950,530 parameters for five VGG-16 of a quarter's width."""
    whole("members", members)
    if members > _LARGEST_ENSEMBLE:
        raise ArgumentError(f"an ensemble has at most {_LARGEST_ENSEMBLE} members; seen {members}")
    return Ensemble([_build_inner(network) for _ in range(members)])


def _build_inner(spec: str) -> nn.Module:
    """The network inside another; it must be a plain one."""
    parsed = spec_of(spec)
    if parsed.name in (anchor_head.__name__, ensemble.__name__):
        raise ArgumentError(f"{spec} cannot stand inside another network: name a plain one")
    return build_own(parsed)


# Functions alone, which bound depth and shape: a card must not ask for a billion layers.
_FACTORIES: tuple[Callable[..., nn.Module], ...] = (
    *(
        anchor_head,
        ensemble,
        densenet_bc100,
        digits_cnn,
        letters_cnn,
        mnist_cnn,
        resnet18,
        resnet20,
        resnet32,
        resnet44,
        resnet56,
    ),
    *(vgg16, wrn10_1, wrn40_2, wrn40_4),
)


def factories() -> dict[str, Callable[..., nn.Module]]:
    """The factories of networks, by the names that commands and cards take.

    >>> sorted(factories())[:3]
    ['anchor_head', 'densenet_bc100', 'digits_cnn']
    """
    return {factory.__name__: factory for factory in _FACTORIES}


def spec_of(text: str) -> Spec:
    """The parts of a network's name, such as ``wrn40_2(dropout=0.3)`` or ``mine.py:network``.

    Raises:
        ArgumentError: the text has another form.
    """
    return parse(
        text,
        "a network such as resnet20, wrn40_2(dropout=0.3), package.module:factory or "
        "file.py:factory",
    )


def is_own(spec: str) -> bool:
    """Whether a spec names a network of this library, and so runs no other code.

    >>> is_own("wrn40_2(dropout=0.3)"), is_own("os:system")
    (True, False)
    """
    try:
        parsed = spec_of(spec)
    except ArgumentError:
        return False
    return not parsed.place and parsed.name in factories()


def build_own(spec: Spec | str) -> nn.Module:
    """A network of this library, untrained.

    Args:
        spec: such as ``resnet20`` or ``wrn40_2(dropout=0.3)``.

    Raises:
        UnknownNameError: there is none of that name.
        ArgumentError: the arguments are not those of its factory, or out of range.
    """
    parsed = spec_of(spec) if isinstance(spec, str) else spec
    by_name = factories()
    if parsed.place or parsed.name not in by_name:
        close = difflib.get_close_matches(parsed.name, by_name, n=1)
        hint = f"did you mean {close[0]}? " if close and not parsed.place else ""
        raise UnknownNameError(
            f"no network of this library is called {parsed.text!r}; {hint}Known: "
            f"{', '.join(by_name)}; others are given as package.module:factory or file.py:factory"
        )
    try:
        network: nn.Module = parsed.call(by_name[parsed.name])
    # Torch raises them for sizes that it cannot make.
    except (TypeError, RuntimeError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(f"{parsed.text} cannot be made: {reason}") from error
    return network
