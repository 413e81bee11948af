"""The files behind a path: one file, a folder with its sub-folders, a zip, or a list of any of these.

A zip is never unpacked to disk: its members are read into memory one at a time, once names and sizes are checked.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeAlias

from lnsdk.errors import InputError

PathLike: TypeAlias = str | os.PathLike[str]

MAX_UNPACKED_BYTES = 8 * 2**30
"""A zip that would unpack to more than this is refused: it is some sixty times a long CT."""

MAX_RATIO = 200
"""A zip above `RATIO_FLOOR_BYTES` that unpacks to more than this many times its own size is refused as a bomb."""

RATIO_FLOOR_BYTES = 256 * 2**20
"""Below this size no compression ratio is suspicious: noise-free phantoms compress a thousandfold."""

DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, RuntimeError, ValueError)
"""What the standard library raises on damaged zips (found by flipping bytes of good ones)."""

CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
"""Names, besides those with a leading dot, that operating systems leave behind; they are passed over without a word."""


@dataclass(frozen=True)
class DiskFile:
    """A file on disk.

    Parameters
    ----------
    name
        As messages show it: the last part of its path only, as folders may be named after patients.
    path
        Where it lies.
    """

    name: str
    path: Path

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.path.stat().st_size

    def open(self) -> BinaryIO:
        """Open for reading; the caller closes. Raises InputError ``unreadable-path``."""
        try:
            return self.path.open("rb")
        except OSError as error:
            raise InputError(
                "unreadable-path", f"{self.name} cannot be opened ({error.strerror}): check its permissions"
            ) from error


@dataclass(frozen=True)
class ZipMember:
    """A file inside an open zip.

    Parameters
    ----------
    name
        As messages show it: the name of the zip and the last part of the member's path in it.
    archive, info
        The open zip and the member's entry in it.
    """

    name: str
    archive: zipfile.ZipFile = field(repr=False)
    info: zipfile.ZipInfo = field(repr=False)

    @property
    def size(self) -> int:
        """Size in bytes, unpacked."""
        return self.info.file_size

    def open(self) -> BinaryIO:
        """Unpack into memory; the caller closes."""
        try:
            return io.BytesIO(self.archive.read(self.info))
        except DAMAGED_ZIP as error:
            raise InputError("bad-zip", f"{self.name} cannot be unpacked, it is damaged: copy the zip again") from error


@dataclass(frozen=True)
class MemoryFile:
    """A file that never was on disk.

    Parameters
    ----------
    name
        As messages show it.
    content
        Its bytes.
    """

    name: str
    content: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.content)

    def open(self) -> BinaryIO:
        """Open for reading; the caller closes."""
        return io.BytesIO(self.content)


Source: TypeAlias = DiskFile | ZipMember | MemoryFile


@contextmanager
def open_sources(path: PathLike | Sequence[PathLike]) -> Iterator[list[Source]]:
    """List the files behind a path, in a fixed order, and keep zips open meanwhile.

    Parameters
    ----------
    path
        A file, a folder (sub-folders and links to folders included), a zip, or a list of any of these.

    Raises
    ------
    InputError
        ``missing-path``, ``unreadable-path``, ``empty-folder``, ``bad-zip``, ``unsafe-zip`` or ``zip-bomb``.
    """
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    with ExitStack() as stack:
        sources = [source for item in paths for source in _expand(Path(item), stack)]
        if not sources:
            where = f"{paths[0]} holds" if len(paths) == 1 else f"{len(paths)} paths hold"
            raise InputError("empty-folder", f"{where} no files: give a folder, zip or list that holds a CT series")
        yield sources


def _expand(path: Path, stack: ExitStack) -> list[Source]:
    try:
        if path.is_dir():
            return list(_folder(path))
        if not path.exists():
            raise InputError("missing-path", f"{path} does not exist: check the path")
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise InputError(
            "unreadable-path", f"{path} cannot be opened ({error.strerror}): check its permissions"
        ) from error
    if path.suffix.lower() == ".zip" or magic in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip(path, stack)
    return [DiskFile(path.name, path)]


def _folder(folder: Path) -> Iterator[Source]:
    seen: set[Path] = set()  # a link may lead back into a folder that was listed
    for parent, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        place = Path(parent).resolve()
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not _is_clutter(name))
        for name in sorted(names):
            path = Path(parent, name)
            if not _is_clutter(name) and path.is_file():
                yield DiskFile(name, path)


def _refuse(error: OSError) -> None:
    raise error


def _zip(path: Path, stack: ExitStack) -> list[Source]:
    try:
        archive = stack.enter_context(zipfile.ZipFile(path))
    except DAMAGED_ZIP as error:
        raise InputError("bad-zip", f"{path.name} is not a readable zip: copy it again") from error
    members = [info for info in archive.infolist() if info.filename and not info.is_dir()]
    for info in archive.infolist():
        _check_member(path.name, info)
    _check_total(path, members)
    kept = [info for info in members if not any(_is_clutter(part) for part in PurePosixPath(info.filename).parts)]
    return [
        ZipMember(f"{path.name}:{PurePosixPath(info.filename).name}", archive, info)
        for info in sorted(kept, key=lambda info: info.filename)
    ]


def _check_member(archive_name: str, info: zipfile.ZipInfo) -> None:
    name = info.filename.replace("\\", "/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name) or ".." in PurePosixPath(name).parts:
        raise InputError(
            "unsafe-zip",
            f"{archive_name} holds {PurePosixPath(name).name!r} under a path that points outside the zip: "
            "it may be an attack; make the zip anew from a plain folder",
        )
    if info.flag_bits & 0x1:  # APPNOTE.TXT 4.4.4: bit 0 set means encrypted
        raise InputError("bad-zip", f"{archive_name} is encrypted: unpack it with its password and give the folder")


def _check_total(path: Path, members: list[zipfile.ZipInfo]) -> None:
    total = sum(info.file_size for info in members)
    ratio = total / max(path.stat().st_size, 1)
    if total > MAX_UNPACKED_BYTES or (total > RATIO_FLOOR_BYTES and ratio > MAX_RATIO):
        raise InputError(
            "zip-bomb",
            f"{path.name} would unpack to {total / 2**20:.0f} MiB, {ratio:.0f} times its size: "
            "unpack it yourself if it is what it should be, and give the folder",
        )


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name.lower() in CLUTTER
