"""What the commands say of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from offmap.training import Epoch


def line(epoch: Epoch) -> None:
    """One line for people who see no progress bar."""
    row = epoch.history[-1]
    typer.echo(
        f"epoch {epoch.number}/{epoch.of}: loss {row['train_loss']:.4f}, accuracy "
        f"{row['train_accuracy']:.2%}; validation {row['validation_loss']:.4f}, "
        f"{row['validation_accuracy']:.2%}; {row['seconds']:.0f} s"
    )
