"""What a detector is: a statistic to collect, an equation to solve, a score to compute."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import cache
from typing import Any, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from offmap._utils.precision import without_autocast
from offmap.activations import Activations, Batch, Head, Heads
from offmap.detectors._checks import check_columns, check_needs, columns
from offmap.detectors._engine import fit
from offmap.errors import NeedsError, NotFittedError
from offmap.stats import Statistic


class Detector(nn.Module):
    """A score of how far a sample lies from the training data: higher is more OOD.

    A subclass says what it ``needs`` and how many ``stages`` its fitting has. In each stage
    :meth:`collect` makes a statistic of one batch; the statistics of all batches are added up and
    given to :meth:`solve`. :meth:`forward` is the score, a pure function of one batch.

    What is learned is kept in buffers whose names end in an underscore; a subclass annotates them
    (``centres_: Tensor``), and they are what is saved, loaded and moved to a device. Constructor
    arguments are JSON values, kept as given, or detectors, which are copied.

    Attributes:
        columns_: columns of the logits and features that it was fitted on, 0 where not read.
        needs: any of "logits", "features", "head", "labels", "distances" (logits that are minus
            distances), "members" (of an ensemble; what else it needs, it then needs of each).
        stages: passes over the training activations that fitting takes; 0 for none.
    """

    needs: frozenset[str] = frozenset({"logits"})
    stages: int = 0

    def prepare(self, first: Activations, head: Head | Heads | None) -> None:
        """Forget what was learned, and get ready for stage 0: given the first activations."""
        self.reset()
        check_needs(self.needs, first, self)
        if "head" in self.needs:
            if not isinstance(head, Head):
                raise NeedsError(
                    f"{self!r} needs the network's last linear layer, and none is known: "
                    "give head=offmap.Head(weight, bias), or leave this detector out"
                )
            self.bind(head)
        if self.stages:
            logits, features = columns(first)
            read = torch.tensor([logits, features if "features" in self.needs else 0])
            self.learn(columns_=read)

    def bind(self, head: Head) -> None:
        """Keep what the method needs of the head. Called before stage 0 if a head is needed."""

    def collect(
        self, stage: int, acts: Activations, labels: Int64[Tensor, " n"] | None
    ) -> Statistic:
        """The statistic of one batch."""
        raise NotImplementedError

    def solve(self, stage: int, stats: Any) -> None:
        """Turn the sum of the statistics of one stage into buffers."""
        raise NotImplementedError

    def forward(self, acts: Activations) -> Float[Tensor, " n"]:
        """The score of each sample, unchecked."""
        raise NotImplementedError

    def score(self, acts: Activations) -> Float[Tensor, " n"]:
        """The score of each sample, float32; higher is more OOD.

        Raises:
            NotFittedError: there is something to learn and nothing was learned.
            NeedsError: the activations lack what the method reads.
            ShapeError: the activations are not shaped as those it was fitted on.
        """
        self.check(acts)
        with without_autocast(acts.logits.device):
            return self(acts).float()  # type: ignore[no-any-return]

    def summary(self) -> str:
        """What was learned, in words."""
        return "nothing to learn"

    def learn(self, **tensors: Tensor) -> None:
        """Keep what was learned, as buffers."""
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.detach())

    @property
    def fitted(self) -> bool:
        """Whether every learned buffer is there."""
        return all(name in self._buffers for name in self.learned_names())

    @classmethod
    @cache  # asked at every call of a guard
    def learned_names(cls) -> list[str]:
        """Names of the buffers that this class learns."""
        annotated = (name for c in cls.__mro__ for name in inspect.get_annotations(c))
        return sorted({name for name in annotated if _is_learned(name)})

    def reset(self) -> None:
        """Forget what was learned."""
        for name in [name for name in self._buffers if _is_learned(name)]:
            delattr(self, name)

    def make_room(self, names: Iterable[str]) -> None:
        """Before loading: make the detectors inside that the learned buffers' names speak of."""

    def check(self, acts: Activations) -> None:
        """Refuse activations that this detector cannot score."""
        if not self.fitted:
            raise NotFittedError(f"{self!r} has learned nothing yet: call fit(batches) first")
        check_needs(self.needs, acts, self)
        if (fitted_on := self._buffers.get("columns_")) is not None:
            check_columns(acts, fitted_on, type(self).__name__)

    @property
    def params(self) -> dict[str, Any]:
        """Constructor arguments, as given."""
        # A method without arguments shows nn.Module's *args and **kwargs.
        parameters = inspect.signature(type(self)).parameters.values()
        starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return {p.name: getattr(self, p.name) for p in parameters if p.kind not in starred}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        return f"{type(self).__name__}({arguments})"

    @classmethod
    def default(cls) -> Self:
        """The detector with its default arguments."""
        return cls()

    def record(self) -> dict[str, Any]:
        """Name and arguments, as JSON keeps them; ``offmap.detector(record)`` reads it back."""
        arguments = {
            name: value.record() if isinstance(value, Detector) else value
            for name, value in self.params.items()
        }
        return {"detector": type(self).__name__.lower(), "arguments": arguments}

    def fit(self, batches: Iterable[Batch], *, head: Head | Heads | None = None) -> Self:
        """Fit on activations, walked once.

        Args:
            batches: pairs ``(Activations, labels)``; labels may be ``None`` where not needed.
            head: the last linear layer, for methods that need it; of an ensemble the tuple of
                its members' heads.

        Raises:
            DataError: the data is empty, not finite, or its labels are not the network's classes.
            NeedsError: features or a head are needed, and there are none.
        """
        fit([self], batches, head=head)
        return self


def _is_learned(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")
