"""Errors for files that are not read, with ways to convert them."""

from __future__ import annotations

import re
from pathlib import Path

from torch.serialization import get_unsafe_globals_in_checkpoint

from offmap.errors import StoreError

_TENSORFLOW_NAME = re.compile(r".*\.(index|data-\d+-of-\d+|h5|hdf5|keras|pb|tflite)")
_TENSORFLOW_FOLDER = ("saved_model.pb", "keras_metadata.pb", "checkpoint")
_HDF5 = b"\x89HDF\r\n\x1a\n"


def check_kind(path: Path) -> None:
    """Refuse files that cannot be a PyTorch checkpoint.

    Raises:
        StoreError: nothing is there, or a folder, or a checkpoint of TensorFlow; the message says
            how to convert one.
    """
    if path.is_dir():
        tensorflow = any((path / name).is_file() for name in _TENSORFLOW_FOLDER)
    elif not path.is_file():  # TensorFlow names its checkpoints by what their files begin with
        tensorflow = Path(f"{path}.index").is_file()
    elif not (tensorflow := bool(_TENSORFLOW_NAME.fullmatch(path.name.lower()))):
        with path.open("rb") as file:
            tensorflow = file.read(len(_HDF5)) == _HDF5
    if tensorflow:
        raise StoreError(
            f"{path} is a checkpoint of TensorFlow or Keras, and only PyTorch tensors are read "
            "here. To convert it: read its arrays with TensorFlow (tf.train.load_checkpoint, or "
            "keras.models.load_model and get_weights), transpose convolution kernels by "
            "(3, 2, 0, 1) and dense kernels by (1, 0), rename gamma, beta, moving_mean and "
            "moving_variance to weight, bias, running_mean and running_var, give all the names of "
            "network.state_dict(), and write them with safetensors.torch.save_file"
        )
    if path.is_dir():
        raise StoreError(f"{path} is a folder: give the file of weights in it")
    if not path.is_file():
        raise StoreError(f"there is no checkpoint at {path}")


def unreadable(path: Path, error: Exception) -> StoreError:
    """The error for a file that is damaged, or holds objects beside tensors, which it names."""
    try:  # the classes and functions that the file names; nothing of it is run
        objects = sorted(get_unsafe_globals_in_checkpoint(path))[:6]
    except Exception:  # of the old format, or no checkpoint at all: the reader named the first
        objects = re.findall(r"GLOBAL ([\w.]+)", str(error))[:1]
    if not objects:
        text = str(error).strip().splitlines()
        reason = text[0] if text else type(error).__name__
        if match := re.search(r"WeightsUnpickler error: *(\S.*)", str(error)):
            reason = match[1]
        return StoreError(f"{path} cannot be read as tensors alone ({reason}). {_REMEDY}")
    return StoreError(
        f"{path} cannot be read as tensors alone: it also holds objects ({', '.join(objects)}), "
        f"and building those can run whatever code the file chooses. {_REMEDY}"
    )


_REMEDY = (
    "In the program that wrote it, save the tensors alone: "
    'torch.save(network.state_dict(), "weights.pt"), or '
    'safetensors.torch.save_file(network.state_dict(), "weights.safetensors")'
)
