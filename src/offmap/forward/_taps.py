"""The layers that a probe keeps besides the features, and their hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from torch import Tensor, nn

from offmap.activations import Activations, Tap
from offmap.activations.taps import Reduction
from offmap.errors import ArgumentError, NeedsError
from offmap.forward._keeping import Keeping, hook_behind
from offmap.forward._layers import reducer, watching


class Taps:
    """Layers by name, or by a rule such as ``:stages``, which the first batch resolves.

    Args:
        network: whose layers they are.
        taps: each with its reduction.

    Attributes:
        layers: the names of the layers of each rule.
    """

    def __init__(self, network: nn.Module, taps: Sequence[Tap]) -> None:
        self._network = network
        self._taps = tuple(dict.fromkeys(taps))
        self._rules = {tap.layer for tap in self._taps if _is_rule(tap.layer)}
        self.layers: dict[str, tuple[str, ...]] = {}
        for tap in self._taps:
            if not _is_rule(tap.layer):
                module_of(network, tap.layer)

    def __iter__(self) -> Iterator[Tap]:
        return iter(self._taps)

    @property
    def resolved(self) -> bool:
        """Whether the layers of each rule are resolved."""
        return self._rules <= self.layers.keys()

    def resolve(
        self, run: Callable[[], Activations], keeping: Keeping, stack: ExitStack
    ) -> Activations:
        """Find the layers of the rules while the network runs, and hook them.

        A rule has no layers where none returns feature maps.
        """
        taps = [tap for tap in self._taps if _is_rule(tap.layer)]
        with watching(self._network, taps) as ends:
            acts = run()
        layers = ends.of_rules(len(acts))
        values = {
            tap.key(i): end.values[tap].to(acts.device)
            for tap in taps
            for i, end in enumerate(layers[tap.layer])
        }
        names = {rule: tuple(end.name for end in layers[rule]) for rule in self._rules}
        self._hook(taps, names, keeping, stack)
        self.layers = names  # last: other threads run without a lock from here on
        return acts.replace(layers={**acts.layers, **values})

    def hook(self, keeping: Keeping, stack: ExitStack) -> None:
        """Keep the layers resolved so far, until the stack is closed."""
        if self._taps:
            self._hook(self._taps, self.layers, keeping, stack)

    def _hook(
        self,
        taps: Sequence[Tap],
        layers: Mapping[str, Sequence[str]],
        keeping: Keeping,
        stack: ExitStack,
    ) -> None:
        for _, module, reduce, key in self._reduced(taps, layers):
            stack.callback(hook_behind(module, keeping.keeper(key, reduce)).remove)

    @contextmanager
    def traced(self, values: dict[str, Tensor]) -> Iterator[None]:
        """Keep the layers by operations that can be traced, while the block runs."""
        with ExitStack() as stack:
            for _, module, reduce, key in self._reduced(self._taps, self.layers):
                stack.callback(hook_behind(module, partial(_keep, values, key, reduce)).remove)
            yield

    def places(self) -> Iterator[tuple[str, Reduction, str]]:
        """The name of each layer, its reduction, and the key of its values."""
        places = self._reduced(self._taps, self.layers)
        return ((name, reduce, key) for name, _, reduce, key in places)

    def _reduced(
        self, taps: Sequence[Tap], layers: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[str, nn.Module, Reduction, str]]:
        for tap in taps:
            names = layers.get(tap.layer, ()) if _is_rule(tap.layer) else [tap.layer]
            for i, name in enumerate(names):
                module = module_of(self._network, name)
                yield name, module, reducer(module, tap), tap.key(i)

    def layer_name(self, layer: str) -> str:
        """The name of a layer, which may be written as a place in a rule: ``:stages[-1]``."""
        rule, _, place = layer.partition("[")
        if not _is_rule(rule):
            return layer
        names = self.layers[rule]
        try:
            number = int(place.rstrip("]") or -1)
        except ValueError as error:
            raise ArgumentError(
                f"{layer}: the place in a rule is a whole number, as in {rule}[-1]"
            ) from error
        if not -len(names) <= number < len(names):
            raise NeedsError(f"{layer}: the network has {len(names)} of these layers: {names}")
        return names[number]


def _keep(values: dict[str, Tensor], key: str, reduce: Reduction, output: Tensor) -> None:
    values[key] = reduce(output).float()


def module_of(network: nn.Module, name: str) -> nn.Module:
    """A layer by its name.

    Raises:
        ArgumentError: there is none; the message lists those there are.
    """
    if name:
        with suppress(AttributeError):  # asked at every call of a guard, so without a walk
            return network.get_submodule(name)
    names = [layer for layer, _ in network.named_modules() if layer]
    raise ArgumentError(f"the network has no layer {name!r}; it has {', '.join(names[:39])}")


def _is_rule(layer: str) -> bool:
    return layer.startswith(":")
