"""Options that several commands take, spelt and meant alike in each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, get_type_hints

import typer

from offmap.cli._arguments import parted
from offmap.errors import ArgumentError

Command = Callable[..., None]
_NETWORK_HELP = "As in `offmap list`; zoo:, timm: or hf:NAME; file.py:factory, module:factory."
_DETECTORS = ("--detectors", "--detector")
_DETECTORS_HELP = "Names or expressions, between commas or spaces"
_CHANNELS = "1 for grey, 3 for colour"


def a_file(path: Path | None) -> Path | None:
    """Refuse, before any work, a folder where a file is to be written."""
    if path is not None and path.is_dir():
        raise ArgumentError(f"{path} is a folder, and a file is to be written: name one in it")
    return path


def a_folder(path: Path | None) -> Path | None:
    """Refuse, before any work, a file where a folder is to be written."""
    if path is not None and path.is_file():
        raise ArgumentError(f"{path} is a file, and a folder is to be written: give another name")
    return path if path is None else writable(path)


def writable(path: Path) -> Path:
    """Refuse, before any work, a folder in which nothing can be written."""
    parent = path.absolute()
    while not parent.exists():
        parent = parent.parent
    if parent.is_dir() and not os.access(parent, os.W_OK):
        raise ArgumentError(
            f"nothing can be written in {parent}, which is for reading alone: change its rights, "
            "or take another folder"
        )
    return path


def folder(default: Any, help: str) -> Any:
    """The option of commands that write a folder."""
    return typer.Option(default, callback=a_folder, help=help)


def guard_to_change(help: str) -> Any:
    """The argument of commands that write a guard anew into its folder."""
    return typer.Argument(..., callback=writable, help=help)


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
    help="cifar10, ..., none, per_image, MEAN,.../STD,...; else that of card, run or data.",
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
REPORT_PAGE = typer.Option(
    None, "--report", callback=a_file, help="Write a report, too: the path of one HTML file."
)
MLFLOW = typer.Option(False, "--mlflow", help="Log to MLflow, too: to $MLFLOW_TRACKING_URI.")
DEVICE = typer.Option(None, help="cpu, cuda, cuda:1, mps, ...; by default cuda if there.")
PRECISION = typer.Option("fp32", help="fp32 or bf16.")
BATCH_SIZE = typer.Option(256, min=1)
ENGINE = typer.Option(
    None, help="ray: several processes, or the cluster of RAY_ADDRESS; by default this process."
)
GROUPS = typer.Option(
    None,
    help="Images that belong together, such as frames of a video: parent-folder, or a regular "
    "expression whose first group in their paths tells them. One of each counts.",
)
WORKERS = typer.Option(None, min=1, help="Processes of the engine, one core each; by default 2.")


def detectors(default: list[str], more: str = "") -> Any:
    """The option of commands that fit or evaluate detectors."""
    help = f"{_DETECTORS_HELP}{more}."
    return typer.Option(default, *_DETECTORS, callback=parted, help=help)


GUARD_DETECTORS = typer.Option(
    [],
    *_DETECTORS,
    callback=parted,
    help="The guard's own detectors: file.py:Name, package.module:Name.",
)
# Of commands that open a guard, the fields of offmap.guard.Opening.
_OPENING: dict[str, tuple[Any, Any]] = {
    "alarm_rate": (
        float | None,
        typer.Option(None, help="Another than it was calibrated for; without data."),
    ),
    "model": (
        str | None,
        typer.Option(
            None, "--model", "--network", help="As for fit, if the network is not of this library."
        ),
    ),
    "weights": (
        Path | None,
        typer.Option(None, help="Checkpoint, if the guard was saved without it."),
    ),
    "detectors": (list[str], GUARD_DETECTORS),
    "normalization": (
        str | None,
        typer.Option(
            None,
            *("--normalization", "--normalize"),
            help="As for fit, if the guard was fitted on images that were normalised already.",
        ),
    ),
    "size": (
        int | None,
        typer.Option(None, min=1, help="Side of the images, if the guard does not know it."),
    ),
    "channels": (
        int | None,
        typer.Option(None, help=f"{_CHANNELS}, if the guard does not know it."),
    ),
    "device": (str | None, DEVICE),
}


def opens_guard(*, without: Sequence[str] = ()) -> Callable[[Command], Command]:
    """Give a command the options by which a guard is opened, in place of its ``opening``.

    Args:
        without: those that it does not take, or has itself.
    """
    added = {name: of for name, of in _OPENING.items() if name not in without}

    def decorate(command: Command) -> Command:
        def run(**arguments: Any) -> None:
            from offmap.guard import Opening
            from offmap.training import normalization

            values = {name: arguments.pop(name) for name in added}
            if values["normalization"] is not None:
                values["normalization"] = normalization(values["normalization"])
            command(opening=Opening(**values), **arguments)

        own = signature(command)
        own_parameters = [p for name, p in own.parameters.items() if name != "opening"]
        new_parameters = [
            Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)
            for name, (kind, default) in added.items()
        ]
        of_added = {name: kind for name, (kind, _) in added.items()}
        run.__annotations__ = get_type_hints(command) | of_added
        run.__signature__ = own.replace(parameters=own_parameters + new_parameters)  # type: ignore[attr-defined]
        run.__doc__, run.__name__ = command.__doc__, command.__name__
        return run

    return decorate
