"""Bundle writer: graphs, description with hashes, licence and model card in MONAI bundle layout."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lnsdk.backends import Signature
from lnsdk.bundle import FORMAT_VERSION, METADATA, SIGNATURES, metadata_digest
from lnsdk.errors import InputError
from lnsdk.export.graph import ExportGraph
from lnsdk.export.onnx import export_onnx
from lnsdk.export.torchscript import export_torchscript

MONAI_VERSION = "1.5.0"
"""Version of MONAI whose bundle specification the layout follows."""


def check_output(folder: Path) -> None:
    """Refuse a place that holds something other than a bundle; call it before any work.

    Raises
    ------
    InputError
        ``output-folder`` if `folder` is a file, or a folder with content but without a bundle's description.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("output-folder", f"{folder} is a file; name a folder for the bundle")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / METADATA).is_file():
        raise InputError(
            "output-folder", f"{folder} holds files that are no bundle (no {METADATA}); name an empty or a new folder"
        )


@contextmanager
def replaced_bundle(folder: Path) -> Iterator[Path]:
    """Build a bundle beside its place and put it there when it is whole and nothing was raised.

    Parameters
    ----------
    folder : Path
        The bundle's place: missing, empty, or an older bundle, which stays until the new one replaces it.

    Yields
    ------
    Path
        An empty folder beside the place to build in, with a name of its own. It is removed when the block raises.

    Raises
    ------
    InputError
        As `check_output`.
    """
    check_output(folder)
    place = folder.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as workshop:
        partial = Path(workshop, "new")
        partial.mkdir()
        yield partial
        old = Path(workshop, "old")
        try:
            if place.exists():
                place.rename(old)
            partial.rename(place)
        except BaseException:
            if old.exists() and not place.exists():
                old.rename(place)
            raise


def write_graphs(folder: Path, graphs: Iterable[ExportGraph]) -> None:
    """Write every graph as ONNX and TorchScript under `folder`/models."""
    models = folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    for graph in graphs:
        export_onnx(graph, models)
        export_torchscript(graph, models)


def write_metadata(
    folder: Path, description: Mapping[str, Any], section: Mapping[str, Any], graphs: Iterable[ExportGraph]
) -> None:
    """Write `configs/metadata.json` with the signature of every graph and the SHA-256 of every file of the bundle.

    Parameters
    ----------
    folder : Path
        The bundle; everything else is already in it.
    description : mapping
        MONAI's keys that depend on the model: version, changelog, description, task and so on.
    section : mapping
        The task's settings, for the `lnsdk` section.
    graphs : iterable of ExportGraph
        The bundle's graphs.
    """
    signatures = {graph.name: graph.signature for graph in graphs}
    metadata: dict[str, Any] = {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
        "meta_schema_20240725.json",
        "monai_version": MONAI_VERSION,
        "pytorch_version": version("torch"),
        "numpy_version": version("numpy"),
        "required_packages_version": {"onnxruntime": version("onnxruntime")},
        **description,
        "network_data_format": {
            "inputs": _monai_tensors(signatures, "inputs"),
            "outputs": _monai_tensors(signatures, "outputs"),
        },
        "lnsdk": {
            "format_version": FORMAT_VERSION,
            **section,
            "graphs": {name: _tensors(signature) for name, signature in signatures.items()},
            "files": file_hashes(folder),
        },
    }
    metadata["lnsdk"]["sha256"] = metadata_digest(metadata)
    path = folder / METADATA
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metadata, indent=1) + "\n")


def update_files(folder: Path, under: str) -> None:
    """Hash the files of one folder of a written bundle again, after some were changed or added; every other hash stays.

    Signatures are removed: they were of another bundle.

    Parameters
    ----------
    folder : Path
        The bundle.
    under : str
        Such as ``"docs/"``.
    """
    (folder / SIGNATURES).unlink(missing_ok=True)
    path = folder / METADATA
    metadata = json.loads(path.read_text())
    metadata["lnsdk"]["files"] |= {
        name: digest for name, digest in file_hashes(folder).items() if name.startswith(under)
    }
    metadata["lnsdk"]["sha256"] = metadata_digest(metadata)
    path.write_text(json.dumps(metadata, indent=1) + "\n")


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a bundle but the description itself, by its name relative to the bundle."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in names.items() if name != METADATA}


def _tensors(signature: Signature) -> dict[str, dict[str, list[int | None]]]:
    return {
        "inputs": {name: list(shape) for name, shape in signature.inputs.items()},
        "outputs": {name: list(shape) for name, shape in signature.outputs.items()},
    }


def _monai_tensors(signatures: Mapping[str, Signature], kind: str) -> dict[str, dict[str, Any]]:
    """MONAI's description of the tensors; a dynamic size is "*"."""
    return {
        f"{graph}.{name}": {
            "type": "image" if name == "image" else "feature",
            "format": "feature",
            "num_channels": shape[1] or 1,
            "spatial_shape": ["*" if size is None else size for size in shape[2:]],
            "dtype": "float32",
            "value_range": [0, 255] if name == "image" else [],
            "is_patch_data": False,
            "channel_def": {},
        }
        for graph, signature in signatures.items()
        for name, shape in getattr(signature, kind).items()
    }
