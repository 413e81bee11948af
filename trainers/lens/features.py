"""Features that a network starts from: those of a pretraining on organs, or of an earlier training."""

from __future__ import annotations

from pathlib import Path

from lnsdk.errors import InputError
from lnsdk.trainers.common.checkpoint import first_line, read_checkpoint
from lnsdk.trainers.networks.lens import Lens

FEATURES = ("backbone", "fusion", "lateral1", "lateral2", "lateral3", "merge")
"""Parts of `Lens` that are taken over; proposal networks and head start anew."""


def load_features(network: Lens, path: Path) -> None:
    """Start a network's features from a pretraining on organs, or from another training of LENS.

    Raises
    ------
    InputError
        ``checkpoint`` when the file is damaged, something else, or of a network of other sizes.
    """
    content = read_checkpoint(path)
    try:
        weights = {name.removeprefix("lens."): value for name, value in content["network"].items()}
        features = {name: value for name, value in weights.items() if name.split(".")[0] in FEATURES}
        missing, _ = network.load_state_dict(features, strict=False)
    except (KeyError, AttributeError, TypeError, RuntimeError) as error:
        raise InputError(
            "checkpoint", f"{path} does not hold features for this network: {first_line(error)}"
        ) from error
    lacking = [name for name in missing if name.split(".")[0] in FEATURES]
    if lacking:
        raise InputError("checkpoint", f"{path} does not hold features for this network: it lacks {lacking[0]}")
