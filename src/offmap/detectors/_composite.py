"""Detectors made of detectors: the activations and the head that each part sees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from copy import deepcopy
from functools import reduce
from operator import or_

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from offmap.activations import Activations, Head, Heads, Sample
from offmap.detectors._detector import Detector
from offmap.detectors._needs import Needs
from offmap.detectors._plan import nodes, plan
from offmap.errors import ArgumentError

_PART = re.compile(r"parts\.(\d+)\.")


class Composite(Detector):
    """A detector made of parts, each of which sees the activations in its own way.

    A subclass gives :meth:`see` and :meth:`head_of`, and its score from :meth:`part_scores`. Its
    own stages come before those of its parts, or after them with ``parts_first``; ``sees`` names
    what :meth:`see` reads of the activations, if that differs from the needs of the part.

    Args:
        parts: the detectors that it is made of; they are copied.
        template: copied for each of the parts that the activations ask for; see :meth:`copies`.

    Raises:
        ArgumentError: a part is no detector, or learns too early on data that comes later.
    """

    template: Detector | None

    def __init__(self, parts: Sequence[Detector] = (), *, template: Detector | None = None) -> None:
        super().__init__()
        detectors = [*parts, *([] if template is None else [template])]
        for part in detectors:
            if not isinstance(part, Detector):
                raise ArgumentError(
                    f"{type(self).__name__} wraps detectors, such as Energy(); seen {part!r}"
                )
        self.parts = nn.ModuleList(deepcopy(part) for part in parts)
        # Not as a module: it learns nothing itself.
        copy = deepcopy(template)
        if copy is not None:
            copy.reset()
        self.__dict__["template"] = copy
        needs = type(self).needs
        for part in detectors:
            needs |= part.needs
        self.needs = needs
        plan(self)  # refuses a tree that cannot be fitted in any order of the data

    def see(self, i: int, acts: Activations) -> Activations:
        """The activations that part ``i`` sees."""
        return acts

    def head_of(self, i: int, head: Head | Heads | None) -> Head | Heads | None:
        """The head of part ``i``, given that of this one."""
        return head

    def view(self, i: int, acts: Activations | Sample) -> Activations | Sample:
        """The view of a batch that part ``i`` scores."""
        if not isinstance(acts, Sample):
            return self.see(i, acts)
        if Needs.INPUTS not in self.part(i).needs:
            return self.see(i, acts.acts)
        if type(self).see is Composite.see:
            return acts
        return acts.seen(lambda batch: self.see(i, batch))

    def view_in_fit(self, i: int, acts: Activations | Sample) -> Activations | Sample:
        """The view of a batch that part ``i`` learns from."""
        if isinstance(acts, Sample) and self.reads_inputs_to_learn(i):
            return acts.seen(lambda batch: self.see(i, batch))
        return self.view(i, acts)

    def reads_inputs_to_learn(self, i: int) -> bool:
        """Whether part ``i`` needs inputs to learn from, and none for its score."""
        part = self.part(i)
        return Needs.INPUTS in part.needs_to_learn and Needs.INPUTS not in part.needs

    def own_view(self, acts: Activations | Sample) -> Activations | Sample:
        # Stages before those of the parts do not need the inputs that the parts need.
        reads_inputs = any(stage.inputs for stage in self.stages)
        if reads_inputs or self.parts_first or Needs.INPUTS in type(self).needs:
            return self.view_to_learn(acts)
        return acts.acts if isinstance(acts, Sample) else acts

    def copies(self, acts: Activations) -> int:
        """How many copies of the template there are for such activations."""
        return 1

    def part(self, i: int) -> Detector:
        """Part ``i``; a copy that learns nothing is the template itself."""
        part = self.parts[i] if len(self.parts) else self.template
        assert isinstance(part, Detector)
        return part

    def part_scores(self, acts: Activations | Sample) -> list[Float[Tensor, " n"]]:
        """The score of each part."""
        batch = acts.acts if isinstance(acts, Sample) else acts
        count = len(self.parts) or self.copies(batch)
        return [self.part(i)(self.view(i, acts)) for i in range(count)]

    def score_columns(self, acts: Activations | Sample) -> Float64[Tensor, "n k"]:
        """The same as columns, in float64."""
        return torch.stack([scores.double() for scores in self.part_scores(acts)], dim=1)

    def expand(self, count: int) -> None:
        """Make that many copies of the template, if it is one that learns."""
        if self.template is not None and self.template.learns:
            self.parts = nn.ModuleList([deepcopy(self.template) for _ in range(count)])

    @property
    def learns(self) -> bool:
        return super().learns or any(part.learns for part in self.all_parts())

    @property
    def fitted(self) -> bool:
        return super().fitted and all(part.fitted for part in self.all_parts())

    def all_parts(self) -> list[Detector]:
        """The parts, or the template as long as there are no copies."""
        number = len(self.parts) or int(self.template is not None)
        return [self.part(i) for i in range(number)]

    def renew_needs(self) -> None:
        """Renew its needs, after parts were left out or restored."""
        if any(node.goes_on for node in nodes(self)):
            self.needs = reduce(or_, (part.needs for part in self.all_parts()), type(self).needs)

    def reset(self) -> None:
        super().reset()
        if self.template is not None:
            self.parts = nn.ModuleList()
        for part in self.all_parts():
            part.reset()
        self.renew_needs()

    def make_room(self, names: Iterable[str]) -> None:
        names = list(names)
        numbers = {int(match[1]) for name in names if (match := _PART.match(name))}
        if numbers == set(range(len(numbers))):  # else some tensors belong to no part
            self.expand(len(numbers))
        for i, part in enumerate(self.parts):
            assert isinstance(part, Detector)
            start = f"parts.{i}."
            part.make_room(name.removeprefix(start) for name in names if name.startswith(start))
        self.renew_needs()

    def summary(self) -> str:
        return "; ".join(part.summary() for part in self.all_parts())


class Shaper(Composite):
    """Maps features and head to others, computes their logits, and lets ``inner`` score them.

    A subclass gives :meth:`shape`.

    Args:
        inner: the detector that scores the shaped features.

    Attributes:
        weight_: the head's weight, ``(c, d)``.
        bias_: the head's bias, ``(c,)``; zero for a head without one.
    """

    needs = Needs.FEATURES | Needs.HEAD
    sees = Needs.FEATURES
    weight_: Tensor
    bias_: Tensor

    def __init__(self, inner: Detector) -> None:
        super().__init__([inner])
        if Needs.MEMBERS in self.needs:
            raise ArgumentError(
                f"{type(self).__name__} shapes one network's features, and {inner!r} is for an "
                f"ensemble: put the shaper inside, MemberMean({type(self).__name__}(...))"
            )
        if Needs.DISTANCES in self.needs:
            raise ArgumentError(
                f"{type(self).__name__} makes logits of a linear head, and {inner!r} reads "
                "distances to anchors, which have none"
            )

    @property
    def inner(self) -> Detector:
        """The detector that scores the shaped features."""
        return self.part(0)

    def shape(
        self, features: Float[Tensor, "n d"], head: Head
    ) -> tuple[Float[Tensor, "n d"], Head]:
        """Shaped features, and the head to apply to them."""
        raise NotImplementedError

    def bind(self, head: Head) -> None:
        bias = head.weight.new_zeros(len(head.weight)) if head.bias is None else head.bias
        self.set_buffers(weight_=head.weight.float().clone(), bias_=bias.float().clone())

    def see(self, i: int, acts: Activations) -> Activations:
        features, head = self.shape(acts.features.float(), Head(self.weight_, self.bias_))
        return acts.replace(logits=head(features), features=features)

    def head_of(self, i: int, head: Head | Heads | None) -> Head:
        """The shaped head, which does not depend on the features."""
        blank = self.weight_.new_zeros(1, self.weight_.shape[1])
        return self.shape(blank, Head(self.weight_, self.bias_))[1]

    def forward(self, acts: Activations | Sample) -> Float[Tensor, " n"]:
        return self.part_scores(acts)[0]
