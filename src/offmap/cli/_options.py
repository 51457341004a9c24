"""Options that several commands take, spelt and meant alike in each."""

from __future__ import annotations

from typing import Any

import typer

from offmap.cli._arguments import parted

_NETWORK_HELP = "As in `offmap list`; zoo:, timm: or hf:NAME; file.py:factory, module:factory."
_DETECTORS = ("--detectors", "--detector")
_DETECTORS_HELP = "Names or expressions, between commas or spaces"
_CHANNELS = "1 for grey, 3 for colour"

_WEIGHTS_HELP = "Checkpoint: safetensors, or tensors only"

NETWORK = typer.Option(..., "--model", "--network", help=_NETWORK_HELP)
NETWORKS = typer.Option(
    ..., "--model", "--network", help=f"{_NETWORK_HELP} Several are taken together; NAME=MODEL."
)
WEIGHTS = typer.Option(None, help=f"{_WEIGHTS_HELP}.")
WEIGHTS_OF_EACH = typer.Option(
    [], help=f"{_WEIGHTS_HELP}; one for each network, or several of one."
)
HEAD = typer.Option(None, help="Name of the last linear layer, if not found.")
OUTPUTS = typer.Option(
    "logits", help="What the network returns: logits, probabilities, log_probabilities."
)
NORMALIZATION = typer.Option(
    None,
    *("--normalization", "--normalize"),
    help="cifar10, ..., none, per_image, MEAN,.../STD,...; else that of the card or the data.",
)
SIZE = typer.Option(
    None, min=1, help="Side to bring all images to; by default that of the card, or of the images."
)
CHANNELS = typer.Option(
    None, help=f"{_CHANNELS}; by default those of the normalisation, or the data."
)
RESIZE = typer.Option(
    None, help="crop (centre) or squash (all of each); by default that of the card, or crop."
)
TRANSFORM = typer.Option(
    None, help="file.py:NAME, from a PIL image to an array (c, h, w), for size, resize, channels."
)
METRIC = typer.Option(
    ["auroc"],
    callback=parted,
    help="Tables to print: auroc, aupr_in, aupr_out, fpr_id_kept, fpr_ood_caught, ood_caught, ...",
)
REPORT = typer.Option(False, "--report", help="Write report.html beside the rest.")
REPORT_PAGE = typer.Option(None, "--report", help="Write a report, too: the path of one HTML file.")
DEVICE = typer.Option(None, help="cpu, cuda, cuda:1, mps, ...; by default cuda if there.")
PRECISION = typer.Option("fp32", help="fp32 or bf16.")
BATCH_SIZE = typer.Option(256, min=1)

GROUPS = typer.Option(
    None,
    help="Images that belong together, such as frames of a video: parent-folder, or a regular "
    "expression whose first group in their paths tells them. One of each counts.",
)

# Of commands that open a guard.
GUARD_NETWORK = typer.Option(
    None, "--model", "--network", help="As for fit, if the network is not of this library."
)
GUARD_WEIGHTS = typer.Option(None, help="Checkpoint, if the guard was saved without it.")
GUARD_DETECTORS = typer.Option(
    [],
    *_DETECTORS,
    callback=parted,
    help="The guard's own detectors: file.py:Name, package.module:Name.",
)
GUARD_ALARM_RATE = typer.Option(
    None, "--alarm-rate", help="Another than it was calibrated for; without data."
)
GUARD_SIZE = typer.Option(None, min=1, help="Side of the images, if the guard does not know it.")
GUARD_CHANNELS = typer.Option(None, help=f"{_CHANNELS}, if the guard does not know it.")
GUARD_NORMALIZATION = typer.Option(
    None,
    *("--normalization", "--normalize"),
    help="As for fit, if the guard was fitted on images that were normalised already.",
)


def detectors(default: list[str], more: str = "") -> Any:
    """The option of commands that fit or evaluate detectors."""
    help = f"{_DETECTORS_HELP}{more}."
    return typer.Option(default, *_DETECTORS, callback=parted, help=help)
