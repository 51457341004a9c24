"""Every error that offmap raises on purpose.

::

    OffmapError
    ├── DataError                 a data set cannot be used as it is
    │   ├── DataNotFoundError     no data under that name or path
    │   ├── LabelError            labels missing, out of range, or of another length
    │   └── NonFiniteError        NaN or infinity where numbers are needed
    ├── ShapeError                a dimension does not match what was fitted or declared
    ├── NeedsError                a detector lacks something it needs: head, labels, features, ...
    │   └── HeadError             no linear head could be found in the network
    ├── NotFittedError            a detector was asked for scores before it was fitted
    ├── DegenerateError           statistics from which the method cannot be solved
    ├── ArgumentError             an argument outside its range
    │   └── UnknownNameError      no detector, data set, metric, ... of that name
    ├── StoreError                a file or folder that cannot be read back
    ├── ExportError               a guard cannot be written as a graph, or the graph does not agree
    └── MissingExtraError         an optional library that is not installed

Each message says what is wrong, what was seen, and what to do. What may be right, and mostly is
not, is told by a warning:

::

    OffmapWarning
    ├── ChanceWarning             labels that predictions hardly fit, or of no class
    ├── FeaturesWarning           features that cannot be shown to be the input of the head
    ├── InputsWarning             inputs of another kind than those before
    ├── LeftOutWarning            images, files or labels of a data set that are not used
    ├── OutputsWarning            outputs that are hardly logits, or depend on their batch
    └── OverlapWarning            samples that stand in two sets
"""


class OffmapError(Exception):
    """Base of every error raised on purpose by this library."""


class DataError(OffmapError, ValueError):
    """A data set cannot be used as it is."""


class DataNotFoundError(DataError):
    """No data under that name or path."""


class LabelError(DataError):
    """Labels are missing, out of range, or of another length than the data."""


class NonFiniteError(DataError):
    """NaN or infinity where finite numbers are needed."""


class ShapeError(OffmapError, ValueError):
    """A dimension does not match what was fitted or declared."""


class NeedsError(OffmapError):
    """A detector lacks something it needs: a head, labels, features."""


class HeadError(NeedsError):
    """No linear head could be found in the network."""


class NotFittedError(OffmapError):
    """A detector was asked for scores before it was fitted."""


class DegenerateError(OffmapError):
    """The statistics do not allow the method to be solved."""


class ArgumentError(OffmapError, ValueError):
    """An argument is outside its range."""


class UnknownNameError(ArgumentError):
    """No detector, data set or other thing of that name."""


class StoreError(OffmapError):
    """A file or folder cannot be read back."""


class ExportError(OffmapError):
    """A guard cannot be written as a graph, or the graph does not agree with it."""


class MissingExtraError(OffmapError, ImportError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str, instead: str = "") -> None:
        super().__init__(
            f"{library} is needed here and not installed: pip install 'offmap[{extra}]'{instead}"
        )


class OffmapWarning(UserWarning):
    """Base of every warning of this library."""


class ChanceWarning(OffmapWarning):
    """A network is hardly better than chance on what was read, or labels are of no class."""


class FeaturesWarning(OffmapWarning):
    """Features of which it cannot be shown that they are the input of the head."""


class InputsWarning(OffmapWarning):
    """Inputs are of another kind than those before."""


class LeftOutWarning(OffmapWarning):
    """Images that cannot be read, files of a data set that are none, or labels are not used."""


class OutputsWarning(OffmapWarning):
    """Outputs of a network that are hardly logits, or depend on what else is in a batch."""


class OverlapWarning(OffmapWarning):
    """Samples stand in two sets."""
