"""A network that stays compiled while features and layers are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from offmap._utils.warning import warn_user
from offmap.errors import OffmapWarning
from offmap.forward._calls import given_to
from offmap.forward._outputs import first_tensor, is_compiled

Pass = tuple[Any, dict[str, Tensor]]


def _nothing() -> None:
    """What stands in a copy."""


class _On:
    """Whether hooks keep what they see; in a copy of a network they do not."""

    here = False

    def __reduce__(self) -> tuple[type[_On], tuple[()]]:
        return _On, ()


@dataclass(frozen=True)
class Place:
    """A layer of which something is kept.

    Args:
        key: under which it stands.
        layer: its name.
        reduce: what is kept of it.
        behind: whether that is of its output, not of what it is given.
    """

    key: str
    layer: str
    reduce: Callable[[Tensor], Tensor]
    behind: bool = False

    def hook(self, network: nn.Module, kept: dict[str, Tensor], on: _On) -> RemovableHandle:
        """Keep it while that is asked for."""
        layer, keep = network.get_submodule(self.layer), partial(_keep, self, kept, on)
        if self.behind:
            return layer.register_forward_hook(lambda _, args, output: keep(first_tensor(output)))
        return layer.register_forward_pre_hook(
            lambda _, args, kwargs=None: keep(given_to(args, kwargs)), with_kwargs=True
        )


def _keep(place: Place, kept: dict[str, Tensor], on: _On, value: Tensor) -> None:
    if on.here:
        # A copy, as what comes behind may work in place.
        kept[place.key] = place.reduce(value).float().clone()


class Compiled:
    """What ``torch.compile(network)`` gave, compiled once more with hooks that it sees.

    Code that was compiled before knows nothing of hooks. A function that runs the network and
    returns what its hooks saw is compiled with them, in the way that the user chose.

    Args:
        network: the network itself.
        compiler: of its wrapper.
    """

    def __init__(self, network: nn.Module, compiler: Callable[..., Any]) -> None:
        self._network, self._compiler = network, compiler
        self._kept: dict[str, Tensor] = {}
        self._on = _On()
        self._run: Callable[..., Pass] | None = None
        self._failed = False

    @classmethod
    def of(cls, network: nn.Module) -> Self | None:
        """That of a network, if all of it was compiled as one by ``torch.compile(network)``."""
        inner = getattr(network, "_orig_mod", None)
        compiler = getattr(network, "dynamo_ctx", None)
        if not isinstance(inner, nn.Module) or not callable(compiler):
            return None
        return None if any(map(is_compiled, inner.modules())) else cls(inner, compiler)

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        """A copy runs as it is written: compiled code stays in its process."""
        return _nothing, ()

    @property
    def ready(self) -> bool:
        """Whether the hooks are there."""
        return self._run is not None and not self._failed

    def hook(self, places: Sequence[Place], stack: ExitStack) -> None:
        """Keep what these layers are given or give, until the stack is closed."""
        for place in places:
            stack.callback(place.hook(self._network, self._kept, self._on).remove)
        self._run = self._run or self._compiler(self._passed)

    def _passed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pass:
        output = self._network(*args, **kwargs)
        return output, dict(self._kept)

    def __call__(self, x: Any, lock: threading.RLock) -> Pass | None:
        """What the network returns, and what was kept of its layers; ``None`` if it cannot be so.

        One thread at a time: where the compiler gives up, the hooks run as they are written, and
        fill the same place.
        """
        assert self._run is not None
        args, kwargs = ((x,), {}) if isinstance(x, Tensor) else ((), dict(x))
        with lock:
            self._on.here = True
            try:
                return self._run(args, kwargs)
            except torch._dynamo.exc.TorchDynamoException as error:
                self._failed = True
                warn_user(
                    "the compiled network runs as it is written, as it could not be compiled with "
                    f"its features: {str(error).strip().splitlines()[0]}",
                    OffmapWarning,
                )
                return None
            finally:
                self._on.here = False
                self._kept.clear()
