"""Checkpoints of a training: written whole, continued only by the run that made them, one line for what is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn

from lnsdk.errors import InputError


@dataclass
class State:
    """What a checkpoint holds besides weights and optimizer: the steps done and the losses of each."""

    step: int = 0
    history: list[list[float]] = field(default_factory=list)


def save(
    fabric: Fabric,
    path: Path,
    network: nn.Module,
    optimizer: Any,
    state: State,
    network_arguments: Mapping[str, Any],
    record: Mapping[str, Any],
) -> None:
    """Write a checkpoint beside the old one and replace it, so that an interruption leaves a whole one.

    Parameters
    ----------
    fabric : Fabric
        That launched the training.
    path : Path
        The file.
    network, optimizer, state
        What goes on.
    network_arguments : mapping
        What the network is built from when the file is read; plain values.
    record : mapping
        What decides the weights: a training with another record does not go on from this file.
    """
    partial = path.with_suffix(".partial")
    content = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "state": asdict(state)}
    fabric.save(partial, content | {**network_arguments, "run": record})
    partial.replace(path)


def restore(path: Path, network: nn.Module, optimizer: Any, record: dict[str, Any]) -> State:
    """Load a checkpoint if it exists and continues this run; a fresh state when there is none."""
    if not path.exists():
        return State()
    content = read_checkpoint(path)
    check_same_run(path, content.get("run"), record)
    try:
        network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        return State(**content["state"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError("checkpoint", f"{path} is damaged ({first_line(error)}); use another folder") from error


def check_same_run(path: Path, made: object, now: dict[str, Any]) -> None:
    """Refuse to go on from a checkpoint that another run made."""
    if not isinstance(made, dict):
        raise InputError("checkpoint", f"{path} does not say how it was made; use another folder")
    differing = [name for name in now if made.get(name) != now[name]]
    if not differing:
        return
    if differing == ["cases"]:
        raise InputError("checkpoint", f"{path} was made with other cases; use another folder or the same cases")
    named = [name for name in differing if name != "cases"]
    then, here = (", ".join(f"{name}={record.get(name)}" for name in named) for record in (made, now))
    raise InputError("checkpoint", f"{path} was made with {then}, now {here}; use another folder or the same settings")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Content of a checkpoint file.

    Raises
    ------
    InputError
        ``checkpoint`` if the file is damaged or something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError("checkpoint", f"cannot read {path}: {error.strerror or error}") from error
    except (RuntimeError, EOFError, UnpicklingError, ValueError) as error:
        raise InputError("checkpoint", f"{path} is damaged or no checkpoint: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError("checkpoint", f"{path} is no checkpoint of a training")
    return content


def file_digest(path: Path | None) -> str | None:
    """Digest of a file of weights, None for none: a moved file is the same file.

    Raises
    ------
    InputError
        ``checkpoint`` when it cannot be read.
    """
    if path is None:
        return None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError("checkpoint", f"cannot read {path}: {error.strerror or error}") from error


def first_line(error: Exception) -> str:
    """First line of an error that may have many."""
    return (str(error).splitlines() or [type(error).__name__])[0]
