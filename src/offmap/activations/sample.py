"""Activations together with the inputs they came from, for what runs the network again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from offmap.activations.activations import Activations

Run = Callable[..., Activations]


@dataclass(frozen=True)
class Sample:
    """Activations with the inputs that they came from, and the way to run the network again.

    Args:
        acts: the activations of the batch.
        inputs: the inputs as floats, before a normalisation that the probe applies, ``(n, ...)``.
        run: ``run(inputs, edit={})`` gives the activations of other inputs, with gradients kept;
            ``edit`` maps a layer, by name or rule, to a function of its output that takes its
            place.
        parameters: the network's, by name; empty where they are not to be had.
        logits_under: ``logits_under(inputs, parameters)`` gives the logits for other values of
            the parameters, with nothing kept: a function that ``torch.func`` can differentiate.
    """

    acts: Activations
    inputs: Tensor
    run: Run
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    logits_under: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.acts)

    def __getitem__(self, rows: slice | Tensor) -> Sample:
        """The same for some of the samples."""
        return replace(self, acts=self.acts[rows], inputs=self.inputs[rows])

    def seen(self, see: Callable[[Activations], Activations]) -> Sample:
        """The sample with a function applied to its activations, also when the network runs again.

        Parameters are not handed on: logits under other parameters would lack the change.
        """
        return Sample(see(self.acts), self.inputs, lambda x, **options: see(self.run(x, **options)))
