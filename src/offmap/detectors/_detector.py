"""The interface of detectors: collect a statistic, solve an equation, compute a score."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from offmap._utils.precision import KeepsTypes, without_autocast
from offmap.activations import Activations, Head, Heads, Sample, Tap
from offmap.detectors import _registry
from offmap.detectors._checks import check_columns, check_needs
from offmap.detectors._chunks import in_parts
from offmap.detectors._engine import fit
from offmap.detectors._local_data import Data
from offmap.detectors._needs import SOURCES, Needs, Source, Stage
from offmap.detectors._plan import passes
from offmap.errors import ArgumentError, NotFittedError
from offmap.stats import Statistic

# Buffers that the engine keeps of every detector that learns.
KEPT = ("columns_", "passes_")
_UNFITTED = "has learned nothing yet: call fit(batches) first"
_UNCALIBRATED = (
    "learns on calibration data and has not seen any: give calibration= to fit, or call calibrate "
    "on the guard"
)


class Detector(KeepsTypes):
    """A score of how far a sample lies from the training data: higher is more OOD.

    A subclass says what it ``needs`` and in which ``stages`` it learns. In each stage
    :meth:`collect` makes a statistic of one batch; the statistics of all batches are added up and
    given to :meth:`solve`. :meth:`forward` is the score, a pure function of one batch. The engine
    does the passes, the checking and the saving.

    What is learned is kept in buffers whose names end in an underscore; a subclass annotates them
    (``centres_: Tensor``): these are saved, loaded and moved to a device. Buffers that
    are not annotated may stand between two stages. Constructor arguments are JSON values,
    detectors, which are copied, or lists of these.

    Attributes:
        columns_: columns of logits and features that it was fitted on, 0 where not read, and
            members of the ensemble.
        passes_: passes over training and calibration data that are done.
    """

    needs: Needs = Needs.LOGITS
    stages: tuple[Stage, ...] = ()
    # Of composites: whether their own stages come after those of the parts, and what see() reads.
    parts_first: ClassVar[bool] = False
    sees: ClassVar[Needs | None] = None
    # Whether a composite goes on without parts that fail; whether it stands for such a part.
    goes_on: ClassVar[bool] = False
    absent: ClassVar[bool] = False
    # What to do where its footprint is too large.
    way_out: ClassVar[str] = "choose another detector"
    # For tables and pages: the year of its publication, and which networks it is for.
    year: ClassVar[int | None] = None
    suits: ClassVar[str] = "any classifier"
    # Whether it is for features that come from a ReLU: a fit on negative ones warns.
    for_relu: ClassVar[bool] = False
    # Type and widths of the last activations that passed the checks.
    _scored: tuple[Any, ...] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        stages = cls.__dict__.get("stages", ())
        if not isinstance(cls.__dict__.get("needs", cls.needs), Needs):
            raise TypeError(f"{cls.__name__}.needs must be flags such as Needs.LOGITS")
        if not isinstance(stages, tuple) or not all(isinstance(s, Stage) for s in stages):
            raise TypeError(f"{cls.__name__}.stages must be a tuple such as (Stage('train'),)")

    # What a method defines.

    def taps(self) -> tuple[Tap, ...]:
        """Other layers to keep of the network, by name or rule, each with its reduction."""
        return ()

    def bind(self, head: Head) -> None:
        """Keep what the method needs of the head. Takes no data."""

    def collect(self, stage: int, acts: Any, labels: Any) -> Statistic:
        """The statistic of one batch: of activations, or of a sample where inputs are needed."""
        raise NotImplementedError

    def solve(self, stage: int, stats: Any) -> None:
        """Turn the sum of the statistics of one stage into buffers, and nothing but buffers."""
        raise NotImplementedError

    def forward(self, acts: Any) -> Float[Tensor, " n"]:
        """The score of each sample, unchecked."""
        raise NotImplementedError

    def footprint(self, classes: int, features: int) -> int:
        """Bytes of its largest statistic or buffer; refused before any reading if too many."""
        return 0

    def not_exportable(self) -> str | None:
        """Why no graph can hold it, or ``None``."""
        return None

    def summary(self) -> str:
        """A line on what was learned."""
        return "nothing to learn"

    @classmethod
    def default(cls) -> Self:
        """The detector with its default arguments."""
        return cls()

    # What every detector can do.

    def score(self, acts: Activations | Sample) -> Float[Tensor, " n"]:
        """The score of each sample, float32; higher is more OOD.

        Raises:
            NotFittedError: there is something to learn and nothing was learned.
            NeedsError: the activations lack what the method reads.
            ShapeError: the activations are not shaped as those it was fitted on.
        """
        self.check(acts)
        batch = self.view_of(acts)
        if isinstance(acts, Sample):
            # The network may run again; methods that take gradients enable them.
            with torch.no_grad(), without_autocast(acts.acts.device):
                return in_parts(self.forward, batch)
        # Not self(batch), which looks for hooks as long as a small score takes.
        if not torch.is_autocast_enabled(acts.device.type):
            return in_parts(self.forward, batch)
        with without_autocast(acts.device):
            return in_parts(self.forward, batch)

    def view_of(self, acts: Activations | Sample) -> Activations | Sample:
        """The sample for a method that needs inputs, its activations for others."""
        return acts.acts if isinstance(acts, Sample) and Needs.INPUTS not in self.needs else acts

    @property
    def needs_to_learn(self) -> Needs:
        """Its needs in fitting, with inputs where a stage of it, or of a part, reads them."""
        by_stages = any(stage.inputs for stage in self.stages)
        by_parts = any(Needs.INPUTS in part.needs_to_learn for part in self.all_parts())
        return self.needs | Needs.INPUTS if by_stages or by_parts else self.needs

    def view_to_learn(self, acts: Activations | Sample) -> Activations | Sample:
        """The sample, if inputs are needed to learn from, else its activations alone."""
        return acts if Needs.INPUTS in self.needs_to_learn else self.view_of(acts)

    def own_view(self, acts: Activations | Sample) -> Activations | Sample:
        """The view of a batch that its own stages learn from."""
        return self.view_to_learn(acts)

    def check(self, acts: Activations | Sample) -> None:
        """Refuse what this detector cannot score."""
        kind = (type(acts), (acts.acts if isinstance(acts, Sample) else acts).widths)
        if kind == self._scored:  # as the batch before: a guard is called on one sample at a time
            return
        if not self.fitted:
            uncalibrated = self.waiting_for == "calibration"
            raise NotFittedError(f"{self!r} {_UNCALIBRATED if uncalibrated else _UNFITTED}")
        check_needs(self.needs, acts, self)
        if (fitted_on := self._buffers.get("columns_")) is not None:
            check_columns(acts, fitted_on, type(self).__name__)
        values = Needs.MEMBERS | Needs.DISTANCES  # depend on more than widths
        if not self.needs & values and not self.all_parts():
            self._scored = kind

    def fit(
        self,
        train: Data | None = None,
        *,
        calibration: Data | None = None,
        head: Head | Heads | None = None,
    ) -> Self:
        """Fit on activations, walked once.

        Args:
            train: pairs ``(Activations, labels)`` of the network's training data; labels may be
                ``None`` where not needed.
            calibration: the same of held-out ID data, for methods that learn on it.
            head: the last linear layer, for methods that need it; of an ensemble the tuple of
                its members' heads.

        Raises:
            DataError: the data is empty, not finite, or its labels are not the network's classes.
            NeedsError: features, a head or one of the two data are needed, and are not there.
        """
        fit([self], train=train, calibration=calibration, head=head)
        return self

    def all_parts(self) -> Sequence[Detector]:
        """The detectors that it is made of: see :class:`Composite`."""
        return ()

    @property
    def learns(self) -> bool:
        """Whether it has anything to learn, or binds to a head."""
        return bool(self.stages or self.learned_names())

    @property
    def waiting_for(self) -> Source | None:
        """The data that it still has to learn from."""
        passes_done = self._buffers.get("passes_")
        counts = [0] * len(SOURCES) if passes_done is None else passes_done.tolist()
        sources = (s for s, n in zip(SOURCES, counts, strict=True) if n < passes(self, s))
        return next(sources, None)

    @property
    def fitted(self) -> bool:
        """Whether every learned buffer is set, its own and those of its parts."""
        return all(name in self._buffers for name in self.learned_names())

    @classmethod
    @cache  # asked at every call of a guard
    def learned_names(cls) -> tuple[str, ...]:
        """Names of the buffers that this class learns."""
        annotated = {name for c in cls.__mro__ for name in inspect.get_annotations(c)}
        return tuple(sorted(name for name in annotated if _is_learned(name)))

    def set_buffers(self, **tensors: Tensor) -> None:
        """Keep what was learned, as buffers."""
        self._scored = None
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.detach())

    def drop_buffers(self, *names: str) -> None:
        """Forget buffers, such as those between two stages."""
        self._scored = None
        for name in names:
            self._buffers.pop(name, None)

    def reset(self) -> None:
        """Forget what was learned."""
        self.drop_buffers(*[name for name in self._buffers if _is_learned(name)])

    def _load_from_state_dict(self, *args: Any) -> None:
        self._scored = None  # buffers are filled in place
        super()._load_from_state_dict(*args)

    def make_room(self, names: Iterable[str]) -> None:
        """Before loading: make the parts that the names of the buffers refer to."""

    @property
    def params(self) -> dict[str, Any]:
        """Constructor arguments, as given.

        Raises:
            ArgumentError: the constructor does not keep one.
        """
        # A method without arguments shows nn.Module's *args and **kwargs.
        parameters = inspect.signature(type(self)).parameters.values()
        starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        names = [p.name for p in parameters if p.kind not in starred]
        for name in names:
            if not hasattr(self, name):
                raise ArgumentError(
                    f"{type(self).__name__} does not keep its argument {name!r}, so it could not "
                    f"be written: put `self.{name} = {name}` into __init__"
                )
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        return f"{type(self).__name__}({arguments})"

    def record(self) -> dict[str, Any]:
        """Name and arguments, as JSON keeps them; ``offmap.detector(record)`` reads it back.

        Raises:
            ArgumentError: the class was not registered, so that no name leads back to it.
        """
        entry = _registry.entry_of(type(self))
        if entry is None:
            raise ArgumentError(
                f"{type(self).__name__} is not registered, so what is written could not be read "
                "back: put @offmap.detectors.register() above the class"
            )
        record = {
            "detector": entry.name,
            "arguments": {name: _as_json(value) for name, value in self.params.items()},
        }
        if entry.family == _registry.OWN:
            record["distribution"] = entry.distribution
        return record


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return value.record() if isinstance(value, Detector) else value


def _is_learned(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")
