"""The only place that runs a network over data: each sample passes it once."""

from offmap.forward._device import as_device
from offmap.forward._digest import weights_digest
from offmap.forward._outputs import features_of, logits_of
from offmap.forward.any_probe import AnyProbe
from offmap.forward.cascade import CascadeProbe, FilterAndClassifier
from offmap.forward.computing import COMPUTING
from offmap.forward.ensemble import EnsembleProbe
from offmap.forward.loop import Batched, cache_key, forward
from offmap.forward.normalization import Normalization
from offmap.forward.options import ProbeOptions, RunOptions, check_options
from offmap.forward.preprocessing import Preprocessing, class_names, preprocessing_of
from offmap.forward.probe import Probe
from offmap.forward.probes import probe_of
from offmap.forward.seen import EachPass, Seen, check_apart

__all__ = [
    "COMPUTING",
    "AnyProbe",
    "Batched",
    "CascadeProbe",
    "EachPass",
    "EnsembleProbe",
    "FilterAndClassifier",
    "Normalization",
    "Preprocessing",
    "Probe",
    "ProbeOptions",
    "RunOptions",
    "Seen",
    "as_device",
    "cache_key",
    "check_apart",
    "check_options",
    "class_names",
    "features_of",
    "forward",
    "logits_of",
    "preprocessing_of",
    "probe_of",
    "weights_digest",
]
