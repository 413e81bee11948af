"""Compiles loop kernels with numba: on request, once, from a cache folder that only this user can write.

A kernel is an ordinary Python function over NumPy arrays with one explicit signature. numba is imported when the first
of them is compiled, so importing lnsdk stays fast. What a detector runs is C++ that is compiled already (lnsdk._C).
"""

import contextlib
import hashlib
import os
import platform
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Generic, ParamSpec

from lnsdk._version import __version__

P = ParamSpec("P")

_compiling = Lock()


class Kernel(Generic[P]):
    """One loop kernel: its Python function, its signature, and its compiled form once :meth:`compile` has run.

    Parameters
    ----------
    function : callable
        Typed Python, loops over arrays, writes its result into an argument. It calls no other kernel.
    signature : str
        numba's signature. Inputs are declared read-only, so that both writable and read-only arrays are accepted.
    """

    def __init__(self, function: Callable[P, None], signature: str) -> None:
        self.function = function
        self.signature = signature
        self._compiled: Callable[P, None] | None = None

    def compile(self) -> Callable[P, None]:
        """Compile, or read from the cache, for this one signature; later calls return at once."""
        if self._compiled is None:
            with _compiling:
                if self._compiled is None:
                    self._compiled = _compile(self.function, self.signature)
        return self._compiled

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> None:
        self.compile()(*args, **kwargs)


def _compile(function: Callable[P, None], signature: str) -> Callable[P, None]:
    from numba.core import config

    if config.DISABLE_JIT:
        return function
    folder = cache_folder()
    if folder is None:
        return _compiled(function, signature, cached=False)
    previous = config.CACHE_DIR
    config.CACHE_DIR = previous or str(folder)  # numba chooses a kernel's folder while it decorates
    try:
        return _compiled(function, signature, cached=True)
    except (
        OSError,
        RuntimeError,
    ):  # the disk is full or became read-only, at the first write or while numba looks for a folder
        return _compiled(function, signature, cached=False)
    finally:
        config.CACHE_DIR = previous


def _compiled(function: Callable[P, None], signature: str, cached: bool) -> Callable[P, None]:
    import numba

    compiled: Callable[P, None] = numba.njit(nogil=True, cache=cached)(function)
    compiled.compile(signature)  # type: ignore[attr-defined]
    compiled.disable_compile()  # type: ignore[attr-defined]  # other argument types are an error, not a compilation
    return compiled


@cache
def cache_folder() -> Path | None:
    """Folder of the compiled kernels, chosen once per process; None when there is nowhere to write.

    numba's cache holds pickles, so a folder counts only when nobody else can write to it: below ``XDG_CACHE_HOME``
    (``~/.cache``), else below the system's temporary folder. Without one, kernels are compiled in every process.
    numba numbers the files of a kernel by reading its index, which two processes may do at once; the name therefore
    separates whatever could differ between them (version, numba, Python, processor), and each kernel has one signature.
    """
    import numba

    parts = (__version__, numba.__version__, platform.python_version(), platform.machine(), processor())
    name = "kernels-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return next((base / name for base in _bases() if make_private(base) and make_private(base / name)), None)


def private_folder() -> Path | None:
    """Folder for what is kept between processes, chosen as `cache_folder` is; None when there is nowhere to write."""
    return next((base for base in _bases() if make_private(base)), None)


def _bases() -> Iterator[Path]:
    home = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # there is no home
        yield (Path(home) if home else Path.home() / ".cache") / "lnsdk"
    with contextlib.suppress(FileNotFoundError):  # there is no temporary folder that can be written to
        yield Path(tempfile.gettempdir()) / f"lnsdk-{_user()}"


def processor() -> str:
    """Return the processor's name with all of its instruction sets."""
    from llvmlite import binding

    return f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def make_private(folder: Path) -> bool:
    """Create the folder if need be; True when it is a real folder of this user that no other user can write to."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(status.st_mode) or not os.access(folder, os.W_OK | os.X_OK):
        return False
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
