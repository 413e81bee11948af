"""ImageNet weights of torchvision's networks, read from a file the user names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lnsdk.errors import InputError


def read_imagenet(path: Path, architecture: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Read the weights of a network.

    Parameters
    ----------
    path : Path
        `.safetensors`, or a torch file with a state dictionary.
    architecture : str
        What the file should hold, for the message.
    shapes : mapping of str to tuple of int
        Names and shapes of the weights to take; others in the file are left alone.

    Raises
    ------
    InputError
        ``imagenet`` when the file cannot be read, lacks a weight or holds one of another size.
    """
    weights = _read(path)
    for name, shape in shapes.items():
        if name not in weights or weights[name].shape != shape:
            raise InputError(
                "imagenet",
                f"{path} does not hold {architecture} weights: expected {name} of shape {tuple(shape)}, "
                f"got {tuple(weights[name].shape) if name in weights else 'nothing'}",
            )
    return {name: weights[name] for name in shapes}


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError("imagenet", f"cannot read ImageNet weights from {path}: {reason}") from error
    return weights if isinstance(weights, dict) else {}
