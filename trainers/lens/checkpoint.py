"""Reading of checkpoint files, with one line for what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from lnsdk.errors import InputError


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Content of a checkpoint file.

    Raises
    ------
    InputError
        ``checkpoint`` if the file is damaged or something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError, ValueError) as error:
        raise InputError("checkpoint", f"{path} is damaged or no checkpoint: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise InputError("checkpoint", f"{path} is no checkpoint of a LENS training")
    return content


def first_line(error: Exception) -> str:
    """First line of an error that may have many."""
    return (str(error).splitlines() or [type(error).__name__])[0]
