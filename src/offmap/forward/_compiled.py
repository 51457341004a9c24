"""A network that stays compiled while the inputs of its head are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn

from offmap._utils.warning import warn_user
from offmap.errors import OffmapWarning
from offmap.forward._calls import Call, given_to
from offmap.forward._outputs import is_compiled

Pass = tuple[Any, list[Tensor]]


def _nothing() -> None:
    """What stands in a copy."""


class _On:
    """Whether hooks keep what they see; in a copy of a network they do not."""

    here = False

    def __reduce__(self) -> tuple[type[_On], tuple[()]]:
        return _On, ()


def _keeper(reduce: Callable[[Tensor], Tensor], kept: list[Tensor], on: _On) -> Callable[..., None]:
    def keep(_: nn.Module, args: Any, kwargs: Any = None) -> None:
        if on.here:
            # A copy, as what comes behind may work in place.
            kept.append(reduce(given_to(args, kwargs)).float().clone())

    return keep


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
        self._kept: list[list[Tensor]] = []
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

    def hook(self, calls: Sequence[Call], stack: ExitStack) -> None:
        """Keep what these layers are given, until the stack is closed."""
        self._kept = self._kept or [[] for _ in calls]
        for call, kept in zip(calls, self._kept, strict=True):
            layer = self._network.get_submodule(call.name)
            keep = _keeper(call.reduce, kept, self._on)
            handle = layer.register_forward_pre_hook(keep, with_kwargs=True)
            stack.callback(handle.remove)
        self._run = self._run or self._compiler(self._passed)

    def _passed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pass:
        output = self._network(*args, **kwargs)
        return output, [kept[-1] for kept in self._kept]

    def __call__(self, x: Any, lock: threading.RLock) -> Pass | None:
        """What the network returns, and what its layers were given; ``None`` if it cannot be so.

        One thread at a time: where the compiler gives up, the hooks run as they are written, and
        fill the same lists.
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
                for kept in self._kept:
                    kept.clear()
