"""Model bundles: read a folder or a zip in MONAI bundle layout, verify every file, and describe what is inside."""

import hashlib
import json
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from lnsdk.backends.base import FILES, Graph, Shape, Signature
from lnsdk.errors import InputError
from lnsdk.inspection import check_onnx, check_torchscript

FORMAT_VERSION = 1
"""Version of the ``lnsdk`` section of ``configs/metadata.json`` that this code reads."""

METADATA = "configs/metadata.json"
"""Where MONAI's bundle layout keeps the description of a model."""

SIGNATURES = "configs/signatures.json"
"""Who vouches for the bundle; not among its files, as it signs the hash that they lead to."""

MAX_METADATA_BYTES = 1 << 20
"""A description is a few kilobytes; more than this is refused before it is parsed."""

MAX_FILE_BYTES = 1 << 30
"""Largest file of a bundle: the full-size LENS head is a quarter of it."""

MAX_BUNDLE_BYTES = 4 << 30
"""Largest sum of all files: a small zip that unpacks to more is an attack or a mistake."""

MAX_FILES = 1000
"""Most files of a bundle."""

MAX_RATIO = 100
"""Most times that a file in a zip may grow when it is unpacked: weights hardly do, text does by 10."""

SMALL_BYTES = 1 << 20
"""Files up to this size may grow as they like."""

DEFAULT_BUNDLE = Path(__file__).parent / "models" / "lens-edge"
"""The detector that is part of the package."""

GRAPH_SUFFIXES = (*dict.fromkeys(FILES.values()), ".ts")
"""Formats that a graph may be stored in, as ``models/<graph><suffix>``."""


class _Store(Protocol):
    """Where the files of a bundle are: each is read by its name relative to the bundle."""

    prefix: str

    def holds(self, name: str) -> bool:
        """Whether there is a file of that name."""

    def read(self, name: str, limit: int) -> bytes:
        """Return a file's content, refusing one of more than `limit` bytes."""


@dataclass(frozen=True)
class BundleSignature:
    """An Ed25519 signature that comes with a bundle; see `lnsdk.signing`.

    Attributes
    ----------
    key : str
        The public key, 32 bytes in hexadecimal.
    signature : str
        64 bytes in hexadecimal.
    """

    key: str
    signature: str


@dataclass(frozen=True)
class Bundle:
    """A verified model bundle.

    Attributes
    ----------
    path : Path
        The folder or zip that it was read from.
    name, version : str
        The model's name and version.
    sha256 : str
        Hash of the description, which holds the hashes of all files: it identifies the model, byte for byte.
    task : str
        What the model does, such as ``"detector"``: it names the pipeline.
    section : mapping
        The ``lnsdk`` section of the description, with the settings of the task.
    graphs : mapping of str to Signature
        The network's graphs by name.
    files : mapping of str to str
        SHA-256 of every file, by its name relative to the bundle.
    signatures : tuple of BundleSignature
        Signatures that come with it; they prove nothing until `lnsdk.signing.check_trusted` has looked at them.
    prefix : str
        Folder of the bundle within its zip, empty or ending with a slash.
    """

    path: Path
    name: str
    version: str
    sha256: str
    task: str
    section: Mapping[str, Any]
    graphs: Mapping[str, Signature]
    files: Mapping[str, str]
    signatures: tuple[BundleSignature, ...]
    prefix: str
    _store: _Store

    def read(self, name: str) -> bytes:
        """Return the content of a file, verified again so that what is used is what was checked.

        Raises
        ------
        InputError
            ``bundle-file`` if the bundle has no such file, ``bundle-hash`` if it changed.
        """
        if name not in self.files:
            raise InputError("bundle-file", f"bundle {self.path.name} has no file {name}")
        with _readable(self.path):
            content = self._store.read(name, MAX_FILE_BYTES)
        _verify(self.path, name, content, self.files[name])
        return content

    def description(self) -> bytes:
        """Return the content of ``configs/metadata.json``."""
        with _readable(self.path):
            return self._store.read(METADATA, MAX_METADATA_BYTES)

    def graph(self, name: str) -> Graph:
        """Return a graph for a backend to open.

        Raises
        ------
        InputError
            ``bundle-graph`` if the bundle has no such graph. Reading it raises the same when the bundle does not hold
            the format that the backend wants.
        """
        if name not in self.graphs:
            raise InputError(
                "bundle-graph", f"bundle {self.path.name} has no graph {name!r}; it has {', '.join(self.graphs)}"
            )

        def read(suffix: str) -> bytes:
            file = f"models/{name}{suffix}"
            if file not in self.files:
                held = [s for s in GRAPH_SUFFIXES if f"models/{name}{s}" in self.files]
                raise InputError(
                    "bundle-graph",
                    f"bundle {self.path.name} has no {file}, only {', '.join(held) or 'no format'} of graph {name!r}; "
                    "use the backend for that format, or export the bundle again with both",
                )
            content = self.read(file)
            check = check_torchscript if suffix == ".ts" else check_onnx
            check(f"bundle {self.path.name}: {file}", content)
            return content

        return Graph(name, self.graphs[name], read)


def read_bundle(path: str | Path | None = None) -> Bundle:
    """Read a bundle and verify all of it: description, format version and the SHA-256 of every file.

    Parameters
    ----------
    path : str or Path, optional
        A folder, or a zip of it. None is the detector that is part of the package.

    Returns
    -------
    Bundle
        Its files are read when they are needed, and verified then once more.

    Raises
    ------
    InputError
        ``bundle-missing`` if there is no bundle there; ``bundle-metadata``, ``bundle-version``, ``bundle-path``,
        ``bundle-size``, ``bundle-file`` or ``bundle-hash`` if it is not to be trusted. The message names the file.
    """
    path = DEFAULT_BUNDLE if path is None else Path(path)
    with _readable(path):
        return _read_bundle(path)


def _read_bundle(path: Path) -> Bundle:
    store = _open_store(path)
    metadata = _parse(path, store.read(METADATA, MAX_METADATA_BYTES))
    section = _section(path, metadata)
    files = _files(path, section)
    _verify_all(path, store, files)
    return Bundle(
        path=path,
        name=_text(path, section, "name"),
        version=_text(path, metadata, "version"),
        sha256=section["sha256"],
        task=_text(path, section, "task"),
        section=section,
        graphs=_graphs(path, section),
        files=files,
        signatures=_signatures(path, store),
        prefix=store.prefix,
        _store=store,
    )


def metadata_digest(metadata: Mapping[str, Any]) -> str:
    """Return the hash that ``metadata["lnsdk"]["sha256"]`` must hold: SHA-256 of the description without that key.

    Parameters
    ----------
    metadata : mapping
        The whole of ``configs/metadata.json``. It is hashed as JSON with sorted keys and without spaces, so that
        formatting plays no part.
    """
    section = {key: value for key, value in metadata["lnsdk"].items() if key != "sha256"}
    content = json.dumps({**metadata, "lnsdk": section}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Refuse a bundle that the file system does not let read."""
    try:
        yield
    except OSError as error:
        file = "" if error.filename is None else f", file {Path(error.filename).name}"
        raise InputError(
            "bundle-file",
            f"bundle {path.name} cannot be read{file} ({error.strerror or 'no reason given'}): check its permissions",
        ) from error


class _Folder:
    prefix = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root = path.resolve()

    def holds(self, name: str) -> bool:
        return (self._root / name).is_file()

    def read(self, name: str, limit: int) -> bytes:
        file = self._root / name
        if not file.resolve().is_relative_to(self._root):
            raise InputError("bundle-path", f"bundle {self._path.name}: {name} is a link that leaves the bundle")
        if not file.is_file():
            raise InputError("bundle-file", f"bundle {self._path.name}: file {name} is missing")
        with file.open("rb") as stream:
            content = stream.read(min(limit, os.fstat(stream.fileno()).st_size) + 1)  # what is asked for is allocated
        return _limited(self._path, name, content, limit)


class _Zip:
    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(entries) > MAX_FILES:
            raise InputError("bundle-size", f"bundle {path.name} holds {len(entries)} files; at most {MAX_FILES}")
        for entry in entries:
            self._check(entry)
        if sum(entry.file_size for entry in entries) > MAX_BUNDLE_BYTES:
            raise InputError("bundle-size", f"bundle {path.name} unpacks to more than {MAX_BUNDLE_BYTES} bytes")
        names = [entry.filename for entry in entries]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError("bundle-path", f"bundle {path.name} holds {twice} twice")
        self.prefix = _prefix(path, names)
        self._names = frozenset(names)

    def holds(self, name: str) -> bool:
        return self.prefix + name in self._names

    def read(self, name: str, limit: int) -> bytes:
        stored = self.prefix + name
        if stored not in self._names:
            raise InputError("bundle-file", f"bundle {self._path.name}: file {name} is missing")
        with self._open() as archive:
            try:
                with archive.open(stored) as stream:
                    content = stream.read(limit + 1)
            except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
                raise InputError("bundle-hash", f"bundle {self._path.name}: {name} is damaged ({error})") from error
        return _limited(self._path, name, content, limit)

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise InputError(
                "bundle-missing", f"{self._path} is neither a bundle folder nor a zip of one ({error})"
            ) from error

    def _check(self, entry: zipfile.ZipInfo) -> None:
        _check_name(self._path, entry.filename)
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise InputError("bundle-path", f"bundle {self._path.name}: {entry.filename} is a link")
        if entry.flag_bits & 1:
            raise InputError("bundle-file", f"bundle {self._path.name}: {entry.filename} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(
                "bundle-file", f"bundle {self._path.name}: {entry.filename} is compressed otherwise than by deflate"
            )
        if entry.file_size > max(SMALL_BYTES, MAX_RATIO * entry.compress_size):
            raise InputError(
                "bundle-size",
                f"bundle {self._path.name}: {entry.filename} unpacks to {entry.file_size} bytes from "
                f"{entry.compress_size}, which no model does",
            )


def _open_store(path: Path) -> _Store:
    if path.is_dir():
        if not (path / METADATA).is_file():
            raise InputError("bundle-missing", f"{path} is no bundle: it has no {METADATA}")
        return _Folder(path)
    if path.is_file():
        return _Zip(path)
    raise InputError("bundle-missing", f"there is no bundle at {path}; give a bundle folder or a zip of one")


def _prefix(path: Path, names: list[str]) -> str:
    """Return the folder inside a zip that the bundle lies in: none, or the one that was zipped."""
    found = [name for name in names if name == METADATA or name.endswith("/" + METADATA)]
    if len(found) != 1 or found[0].count("/") > METADATA.count("/") + 1:
        raise InputError("bundle-missing", f"{path} is no zip of a bundle: it must hold one {METADATA}")
    return found[0].removesuffix(METADATA)


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\\" in name or ":" in name or "\0" in name or ".." in parts:
        raise InputError("bundle-path", f"bundle {path.name} names a file outside itself: {name!r}")


def _limited(path: Path, name: str, content: bytes, limit: int) -> bytes:
    if len(content) > limit:
        raise InputError("bundle-size", f"bundle {path.name}: {name} is larger than {limit} bytes")
    return content


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    try:
        metadata = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError("bundle-metadata", f"bundle {path.name}: {METADATA} is not JSON ({error})") from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("lnsdk"), dict):
        raise InputError("bundle-metadata", f"bundle {path.name}: {METADATA} has no lnsdk section")
    return metadata


def _section(path: Path, metadata: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = metadata["lnsdk"]
    version = section.get("format_version")
    if version != FORMAT_VERSION:
        raise InputError(
            "bundle-version",
            f"bundle {path.name} has format version {version!r}; this lnsdk reads version {FORMAT_VERSION}: "
            "update lnsdk or export the bundle again",
        )
    if section.get("sha256") != metadata_digest(metadata):
        raise InputError(
            "bundle-hash", f"bundle {path.name}: {METADATA} does not match its own SHA-256; get the bundle again"
        )
    return section


def _files(path: Path, section: Mapping[str, Any]) -> dict[str, str]:
    files = section.get("files")
    if not isinstance(files, dict) or not all(isinstance(digest, str) for digest in files.values()):
        raise InputError("bundle-metadata", f"bundle {path.name}: lnsdk.files must map file names to SHA-256 digests")
    if len(files) > MAX_FILES:
        raise InputError("bundle-size", f"bundle {path.name} lists {len(files)} files; at most {MAX_FILES}")
    for name in files:
        _check_name(path, name)
    return files


def _signatures(path: Path, store: _Store) -> tuple[BundleSignature, ...]:
    if not store.holds(SIGNATURES):
        return ()
    try:
        listed = json.loads(store.read(SIGNATURES, MAX_METADATA_BYTES))["signatures"]
        found = tuple(BundleSignature(entry["key"], entry["signature"]) for entry in listed)
        lengths = {(len(bytes.fromhex(each.key)), len(bytes.fromhex(each.signature))) for each in found}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError("bundle-metadata", f"bundle {path.name}: {SIGNATURES} cannot be read ({error})") from error
    if not lengths <= {(32, 64)}:
        raise InputError("bundle-metadata", f"bundle {path.name}: {SIGNATURES} holds something else than Ed25519")
    return found


def _verify_all(path: Path, store: _Store, files: Mapping[str, str]) -> None:
    total = 0
    for name, digest in files.items():
        content = store.read(name, MAX_FILE_BYTES)
        total += len(content)
        if total > MAX_BUNDLE_BYTES:
            raise InputError("bundle-size", f"bundle {path.name} is larger than {MAX_BUNDLE_BYTES} bytes")
        _verify(path, name, content, digest)


def _verify(path: Path, name: str, content: bytes, digest: str) -> None:
    if hashlib.sha256(content).hexdigest() != digest:
        raise InputError("bundle-hash", f"bundle {path.name}: {name} does not match its SHA-256; get the bundle again")


def _text(path: Path, mapping: Mapping[str, Any], key: str) -> str:
    value = mapping.get(key)
    if not isinstance(value, str) or not value:
        raise InputError("bundle-metadata", f"bundle {path.name}: {METADATA} has no {key!r}")
    return value


def _graphs(path: Path, section: Mapping[str, Any]) -> dict[str, Signature]:
    graphs = section.get("graphs")
    if not isinstance(graphs, dict) or not graphs:
        raise InputError("bundle-metadata", f"bundle {path.name}: lnsdk.graphs must name at least one graph")
    return {name: _signature(path, name, graph) for name, graph in graphs.items()}


def _signature(path: Path, name: str, graph: Any) -> Signature:
    if not isinstance(graph, dict):
        raise InputError("bundle-metadata", f"bundle {path.name}: graph {name!r} must have inputs and outputs")
    return Signature(_tensors(path, name, graph.get("inputs")), _tensors(path, name, graph.get("outputs")))


def _tensors(path: Path, graph: str, tensors: Any) -> dict[str, Shape]:
    valid = isinstance(tensors, dict) and all(
        isinstance(shape, list) and all(size is None or (isinstance(size, int) and size > 0) for size in shape)
        for shape in tensors.values()
    )
    if not valid or not tensors:
        raise InputError(
            "bundle-metadata",
            f"bundle {path.name}: inputs and outputs of graph {graph!r} must map names to lists of sizes or null",
        )
    return {name: tuple(shape) for name, shape in tensors.items()}
