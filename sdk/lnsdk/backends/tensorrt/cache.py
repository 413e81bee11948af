"""Files that took long to make, each with a sidecar that says what it was made from, checked before it is used."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, TypeAlias

from lnsdk._jit import make_private
from lnsdk.errors import BackendUnavailable

Description: TypeAlias = Mapping[str, Any]
"""What a file was made from, as JSON: the file is used only where all of it is the same."""

VARIABLE = "LNSDK_CACHE"
"""Environment variable that names the cache folder."""

DIGEST = "sha256"
"""Key under which the sidecar holds the SHA-256 of the file."""

VERSION = "tensorrt"
"""Key of the description that holds TensorRT's version."""


def cache_folder() -> Path:
    """Folder for engines: ``$LNSDK_CACHE/tensorrt``, or that of this user, ``~/.cache/lnsdk/tensorrt``.

    Raises
    ------
    BackendUnavailable
        If it cannot be written to, or others can write to it: an engine is a program.
    """
    named = os.environ.get(VARIABLE)
    try:
        base = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "lnsdk")
    except RuntimeError as error:  # there is no home
        raise BackendUnavailable(f"tensorrt: {error}; set {VARIABLE} to a folder for engines") from error
    folder = base / "tensorrt"
    if not make_private(folder):
        raise BackendUnavailable(
            f"tensorrt: engines cannot be kept in {folder}; it must be a folder of this user that can be written to, "
            f"and by nobody else: set {VARIABLE} to such a folder, or correct its owner and permissions"
        )
    return folder


def load(path: Path, wanted: Description) -> bytes | None:
    """Return a file's content if its sidecar describes it as `wanted` and holds its SHA-256, else None.

    One made to be ``"version_compatible"`` may be of an earlier TensorRT with the same major version.
    """
    try:
        found = json.loads(_sidecar(path).read_bytes())
        content = path.read_bytes()
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    if wanted.get("version_compatible") and _runs_on(found.get(VERSION), wanted[VERSION]):
        found[VERSION] = wanted[VERSION]
    return content if found == {**wanted, DIGEST: _digest(content)} else None


def store(path: Path, content: bytes, description: Description) -> None:
    """Write a file, then its sidecar; each is written beside its place and renamed, so no reader meets half of one.

    Where two processes store at once, a reader may meet the file of one and the sidecar of the other: the SHA-256 tells
    them apart.

    Raises
    ------
    BackendUnavailable
        If it cannot be written.
    """
    sidecar = json.dumps({**description, DIGEST: _digest(content)}, indent=1).encode()
    try:
        _replace(path, content)
        _replace(_sidecar(path), sidecar)
    except OSError as error:
        raise BackendUnavailable(
            f"tensorrt: cannot write {path} ({error.strerror or error}); make room, or set {VARIABLE} to another folder"
        ) from error


def _runs_on(built: object, running: str) -> bool:
    """Whether a version-compatible engine of one TensorRT runs on another: a later one of the same major version."""
    numbers = [re.findall(r"\d+", str(version)) for version in (built, running)]
    before, after = ([int(number) for number in version[:3]] for version in numbers)
    return len(before) == len(after) == 3 and before[0] == after[0] and before <= after


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _replace(path: Path, content: bytes) -> None:
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        partial = Path(file.name)
        try:
            file.write(content)
            file.close()
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
