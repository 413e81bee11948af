"""The trained network of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from lnsdk.errors import InputError
from lnsdk.trainers.common.checkpoint import first_line, read_checkpoint
from lnsdk.trainers.networks.fpr import FalsePositiveNetwork, FprShape


def load_fpr(checkpoint: Path) -> FalsePositiveNetwork:
    """Load the network of a checkpoint, in evaluation mode.

    Raises
    ------
    InputError
        ``checkpoint`` if the file is damaged or no checkpoint of `lnsdk.trainers.lens.fpr.train.train_fpr`.
    """
    content = read_checkpoint(checkpoint)
    try:
        network = FalsePositiveNetwork(FprShape(**content["shape"]))
        network.load_state_dict(content["network"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            "checkpoint", f"{checkpoint} is no checkpoint of false-positive reduction: {first_line(error)}"
        ) from error
    return network.eval()
