"""What one network pass leaves behind, and the head that made the logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from offmap.errors import NonFiniteError, ShapeError


@dataclass(frozen=True)
class Activations:
    """What one pass of a network leaves behind, for a batch of ``n`` samples.

    Args:
        logits: outputs before the softmax, ``(n, c)``.
        features: input of the last linear layer, ``(n, d)``, where the network has one.
        layers: reduced activations of other layers by layer name, each ``(n, ...)``.
        members: the activations of each member of an ensemble. Its ``logits`` are then the
            logarithms of the mean of the members' probabilities, and it has no features.
        answer_logits: logits of the network that answers, ``(n, c)``, where that is another one.
    """

    logits: Float[Tensor, "n c"]
    features: Float[Tensor, "n d"] | None = None
    layers: Mapping[str, Float[Tensor, "n ..."]] = field(default_factory=dict)
    members: tuple[Activations, ...] = ()
    answer_logits: Float[Tensor, "n c"] | None = None

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def answers(self) -> Int64[Tensor, " n"]:
        """The label that is answered for each sample, whether it is known or not."""
        return (self.logits if self.answer_logits is None else self.answer_logits).argmax(1)

    def __getitem__(self, rows: slice | Tensor) -> Activations:
        """The same activations for some of the samples."""
        return self._each(lambda x: x[rows])

    def to(self, device: torch.device) -> Activations:
        """The same activations on a device."""
        return self._each(lambda x: x.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Activations:
        return Activations(
            change(self.logits),
            None if self.features is None else change(self.features),
            {name: change(x) for name, x in self.layers.items()},
            tuple(member._each(change) for member in self.members),
            None if self.answer_logits is None else change(self.answer_logits),
        )

    @classmethod
    def joined(cls, parts: Sequence[Activations]) -> Activations:
        """The activations of several batches as one."""
        features = [part.features for part in parts if part.features is not None]
        answers = [part.answer_logits for part in parts if part.answer_logits is not None]
        return cls(
            torch.cat([part.logits for part in parts]),
            torch.cat(features) if features else None,
            {name: torch.cat([part.layers[name] for part in parts]) for name in parts[0].layers},
            tuple(
                cls.joined(members)
                for members in zip(*(part.members for part in parts), strict=True)
            ),
            torch.cat(answers) if answers else None,
        )

    @classmethod
    def of_members(cls, members: Sequence[Activations]) -> Activations:
        r"""The activations of an ensemble, with the logits :math:`\log \tfrac1M \sum_m p_m`.

        Raises:
            ShapeError: the members differ in their number of classes or samples.
        """
        if len(shapes := {tuple(member.logits.shape) for member in members}) != 1:
            raise ShapeError(
                f"the members of an ensemble must give logits of one shape; seen {sorted(shapes)}"
            )
        return cls(log_mean_probabilities([m.logits for m in members]), members=tuple(members))

    def check_finite(self, *, start: int = 0) -> None:
        """Refuse NaN and infinity.

        Args:
            start: index of the first sample of this batch in its data set, for the message.

        Raises:
            NonFiniteError: says what is not finite, for how many samples, and which come first.
        """
        for member in self.members:
            member.check_finite(start=start)
        named = {"logits": self.logits, "features": self.features, **self.layers}
        named["logits of the network that answers"] = self.answer_logits
        for name, x in named.items():
            # A finite sum proves all finite without a mask; only its failure asks for more.
            if x is None or math.isfinite(x.sum().item()):
                continue
            bad = (~x.flatten(1).isfinite().all(1)).nonzero()[:, 0] + start
            if len(bad):
                raise NonFiniteError(
                    f"{name} are not finite for {len(bad)} samples of a batch, the first of them "
                    f"at {bad[:5].tolist()}: look at these inputs, or use precision='fp32'"
                )


def log_mean_probabilities(logits: Sequence[Float[Tensor, "n c"]]) -> Float[Tensor, "n c"]:
    """Logarithm of the mean of the members' softmax probabilities, float32."""
    return log_mean(torch.stack([z.double().log_softmax(1) for z in logits])).float()


def log_mean(log_q: Float64[Tensor, "m n c"]) -> Float64[Tensor, "n c"]:
    """``log q`` of the mean of the members' probabilities; that of equal members to the bit."""
    top = log_q.amax(0)
    return (log_q - top).exp().mean(0).log() + top


class HasMembers(nn.Module):
    """What is run member by member: see :class:`offmap.networks.Ensemble`."""

    members: nn.ModuleList


@dataclass(frozen=True)
class Head:
    """The last linear layer of a classifier: ``logits = features @ weight.T + bias``.

    Args:
        weight: ``(c, d)``.
        bias: ``(c,)``, or ``None`` for a layer without one.
    """

    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"] | None = None

    def __call__(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """The logits of these features."""
        return F.linear(features, self.weight, self.bias)

    def to(self, device: torch.device) -> Head:
        """The same head on a device."""
        return Head(self.weight.to(device), None if self.bias is None else self.bias.to(device))


# The heads of an ensemble's members, in their order; ``None`` for a member without one.
Heads = tuple[Head | None, ...]
