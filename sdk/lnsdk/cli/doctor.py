"""``lnsdk doctor``: what is installed, what works, and what to do about the rest."""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from platform import platform, python_version
from typing import TYPE_CHECKING

from lnsdk._version import __version__
from lnsdk.cli.console import command_parser, plain_table
from lnsdk.errors import InputError

if TYPE_CHECKING:
    from lnsdk.backends import Backend

PACKAGES = (
    "numpy",
    "numba",
    "pydicom",
    "highdicom",
    "SimpleITK",
    "onnxruntime",
    "pyjpegls",
    "pylibjpeg-openjpeg",
    "pillow",
)
"""What the runtime is built on."""

Check = Callable[[], str]


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the default path from a CT to lesions works, else 1."""
    from rich.console import Console

    from lnsdk.backends import BACKENDS

    _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    versions = plain_table("versions", [("package", "left"), ("version", "left")])
    versions.add_row("lnsdk", __version__)
    versions.add_row("python", f"{python_version()} on {platform()}")
    for package in PACKAGES:
        versions.add_row(package, _installed(package))
    console.print(versions)

    required: dict[str, Check] = {
        "compiled kernels": _compiled_kernels,
        "numba kernels": _numba_kernels,
        "default model": _default_model,
        "detection": _detection,
    }
    works = True
    for name, check in required.items():
        passed, text = _outcome(check)
        works &= passed
        console.print(f" {'ok' if passed else 'FAILED':<8} {name}: {text}", markup=False)
    for name, backend in BACKENDS.items():
        console.print(_backend_line(name, backend), markup=False)
    return 0 if works else 1


def _outcome(check: Check) -> tuple[bool, str]:
    try:
        return True, check()
    except (ImportError, OSError, InputError, RuntimeError) as error:  # RuntimeError: an engine's, or is unavailable
        return False, " ".join(str(error).split())


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return f"missing; install it with `pip install {package}`"


def _compiled_kernels() -> str:
    from lnsdk import _C

    if not hasattr(_C, "instruction_set"):
        raise ImportError("built from older sources; run `python setup.py build_ext --inplace` or install lnsdk again")
    return f"lnsdk._C, built for {_C.__version__}, running on {_C.instruction_set()}"


def _numba_kernels() -> str:
    from lnsdk._jit import cache_folder

    folder = cache_folder()
    return (
        f"cached in {folder}" if folder else "compiled in every process: no folder to cache them in can be written to"
    )


def _default_model() -> str:
    from lnsdk.bundle import read_bundle

    bundle = read_bundle()
    return f"{bundle.name} {bundle.version}, SHA-256 {bundle.sha256}"


def _detection() -> str:
    """Run the default detector on a small block of water in air."""
    import numpy as np

    from lnsdk.pipelines.detector import Detector
    from lnsdk.volume import Volume

    voxels = np.full((8, 64, 64), -1000, np.int16)
    voxels[:, 16:48, 16:48] = 0
    result = Detector()(Volume(voxels, np.diag([1.0, 1.0, 2.0, 1.0])))
    engine = result.provenance
    return f"{engine.backend} on {engine.device}, {engine.precision}"


def _backend_line(name: str, backend: "Backend") -> str:
    """Tell whether an engine is there, and, by importing it, whether it works."""
    reason = backend.why_unavailable()
    if reason is not None:
        return f" {'missing':<8} backend {name}: {reason}"
    passed, text = _outcome(lambda: _engine(backend))
    return f" {'ok' if passed else 'FAILED':<8} backend {name}: {text}"


def _engine(backend: "Backend") -> str:
    """An engine's version, and what it computes in."""
    device = backend.device("auto")
    return f"{backend.version()}, {' and '.join(backend.precisions(device))} on {device}"


def _parser() -> ArgumentParser:
    return command_parser(
        "doctor",
        "Show versions, and check kernels, engines and the default model. Exit code 0 when `lnsdk detect` works here.",
        ["lnsdk doctor"],
    )
