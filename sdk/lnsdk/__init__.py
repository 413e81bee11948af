"""Lesions and lymph nodes in medical images, in patient coordinates, beside the scanner.

Importing this package is cheap: each public name loads its module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from lnsdk._version import __version__

if TYPE_CHECKING:
    from lnsdk import metrics, ops
    from lnsdk.errors import BackendUnavailable, InputError
    from lnsdk.io import read
    from lnsdk.pipelines import load
    from lnsdk.pipelines.detector import Detector
    from lnsdk.results import Detections, Lesion
    from lnsdk.volume import Geometry, Volume

__all__ = [
    "BackendUnavailable",
    "Detections",
    "Detector",
    "Geometry",
    "InputError",
    "Lesion",
    "Volume",
    "__version__",
    "load",
    "metrics",
    "ops",
    "read",
]

_HOMES = {
    "BackendUnavailable": "lnsdk.errors",
    "Detections": "lnsdk.results",
    "Detector": "lnsdk.pipelines.detector",
    "Geometry": "lnsdk.volume",
    "InputError": "lnsdk.errors",
    "Lesion": "lnsdk.results",
    "Volume": "lnsdk.volume",
    "load": "lnsdk.pipelines",
    "read": "lnsdk.io",
}
_MODULES = ("metrics", "ops")


def __getattr__(name: str) -> object:
    if name in _HOMES:
        value: object = getattr(import_module(_HOMES[name]), name)
    elif name in _MODULES:
        value = import_module(f"lnsdk.{name}")
    else:
        raise AttributeError(f"module 'lnsdk' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
