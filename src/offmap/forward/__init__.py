"""The only place that runs a network over data: each sample passes it once."""

from offmap.forward._outputs import features_of, logits_of
from offmap.forward._place import as_device
from offmap.forward._weights import weights_digest
from offmap.forward.cascade import AnyProbe, CascadeProbe, FilterAndClassifier, probe_of
from offmap.forward.loop import cache_key, forward
from offmap.forward.members import EnsembleProbe
from offmap.forward.normalization import Normalization
from offmap.forward.probe import Probe

__all__ = [
    "AnyProbe",
    "CascadeProbe",
    "EnsembleProbe",
    "FilterAndClassifier",
    "Normalization",
    "Probe",
    "as_device",
    "cache_key",
    "features_of",
    "forward",
    "logits_of",
    "probe_of",
    "weights_digest",
]
