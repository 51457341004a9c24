"""Networks of timm and of transformers, by name: ``timm:NAME`` and ``hf:OWNER/NAME``."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from torch import nn

from offmap._utils.arguments import did_you_mean
from offmap._utils.hub import first_line, reached
from offmap._utils.spec import parse
from offmap.errors import ArgumentError, MissingExtraError, UnknownNameError

TIMM, HF = "timm:", "hf:"
_FORM = re.compile(r"(?P<name>[^()]+)(?P<arguments>\(.*\))?", re.DOTALL)


def is_of_library(spec: str) -> bool:
    """Whether a spec names a network of timm or transformers.

    >>> is_of_library("timm:resnet18.a1_in1k"), is_of_library("resnet20")
    (True, False)
    """
    return spec.startswith((TIMM, HF))


def build_of_library(spec: str, *, trained: bool = True) -> nn.Module:
    """A network of timm or transformers, in evaluation mode.

    For its preprocessing see :func:`offmap.forward.preprocessing_of`.

    Args:
        spec: ``timm:NAME``, as in ``timm.create_model``, or ``hf:OWNER/NAME``, a classifier of
            images or of text on the hub, or in a folder; with arguments as in
            ``timm:resnet18(num_classes=10, pretrained=False)``.
        trained: whether to load the weights of its authors.

    Raises:
        MissingExtraError: timm or transformers is not installed.
        UnknownNameError: there is none of that name; or the hub gives no answer.
        ArgumentError: it is no classifier, or takes other arguments.
    """
    scheme, _, call = spec.partition(":")
    match = _FORM.fullmatch(call.strip())
    if match is None:
        raise ArgumentError(f"{spec!r} is not timm:NAME or hf:OWNER/NAME")
    arguments = parse(f"network{match['arguments'] or ''}").arguments
    make = _build_timm if f"{scheme}:" == TIMM else _build_hub
    try:
        return make(match["name"], arguments, trained).eval()
    except TypeError as error:
        raise ArgumentError(f"{spec}: {error}") from error


def _build_timm(name: str, arguments: dict[str, Any], trained: bool) -> nn.Module:
    timm = _import_library("timm", "timm")
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models())
        raise UnknownNameError(f"timm has no network {name!r}: {hint}look at timm.list_models()")
    arguments = {"pretrained": trained, **arguments}
    if not arguments["pretrained"]:
        return timm.create_model(name, **arguments)  # type: ignore[no-any-return]
    config = timm.get_pretrained_cfg(name)
    if not getattr(config, "has_weights", False):  # timm would give random ones
        raise ArgumentError(
            f"timm has no weights for {name}: give yours, or the name of another (as in "
            "timm.list_pretrained())"
        )
    if config.hf_hub_id:
        with reached(config.hf_hub_id):
            return timm.create_model(name, **arguments)  # type: ignore[no-any-return]
    try:  # the weights lie at an address of their own, of which the hub knows nothing
        return timm.create_model(name, **arguments)  # type: ignore[no-any-return]
    except OSError as error:
        raise UnknownNameError(f"timm:{name} cannot be loaded: {first_line(error)}") from error


def _build_hub(name: str, arguments: dict[str, Any], trained: bool) -> nn.Module:
    transformers = _import_library("transformers", "hub")
    safe = {"trust_remote_code": False}  # a repository must not choose what code is run
    with reached(name):
        config = transformers.AutoConfig.from_pretrained(name, **safe, **arguments)
        architectures = getattr(config, "architectures", None) or []
        for kind in ("ImageClassification", "SequenceClassification"):
            if any(f"For{kind}" in architecture for architecture in architectures):
                break
        else:
            raise ArgumentError(
                f"{name} is {', '.join(architectures) or 'of no named architecture'}, and no "
                "classifier of images or text; for an encoder of images and texts see "
                "offmap.networks.zero_shot"
            )
        auto = getattr(transformers, f"AutoModelFor{kind}")
        network: nn.Module = (
            auto.from_pretrained(name, config=config, **safe)
            if trained
            else auto.from_config(config, **safe)
        )
        if kind == "ImageClassification":
            reader = transformers.image_processing_base.ImageProcessingMixin
            # Plain values: the processors themselves need more libraries.
            network.image_processor = reader.get_image_processor_dict(name)[0]
    return network


def _import_library(name: str, extra: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        if error.name not in (name, None):  # it is installed, and one of its own imports fails
            raise
        raise MissingExtraError(name, extra) from error
