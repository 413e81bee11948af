"""SimpleITK's file readers, loaded when a file needs them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class ItkImage:
    """What SimpleITK read.

    Parameters
    ----------
    values
        (z, y, x) or with as many axes as the file has, components last.
    affine
        float64 (4, 4): voxel (x, y, z, 1) to LPS in mm; that of the first three axes; the identity for fewer.
    components
        Values per voxel.
    keys
        Names of the metadata that the file holds.
    """

    values: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    components: int
    keys: frozenset[str]


def read_itk(path: Path, image_io: str) -> ItkImage:
    """Read a file with one of SimpleITK's readers and no other.

    Parameters
    ----------
    path
        The file.
    image_io
        Name of the reader, such as "NrrdImageIO".

    Raises
    ------
    RuntimeError
        When the file cannot be read.
    """
    # SimpleITK ships annotations for some of its functions only; a module from `import_module` is not checked.
    itk = import_module("SimpleITK")
    reader = itk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    image = reader.Execute()
    affine = np.eye(4)
    axes = image.GetDimension()
    if axes >= 3:
        affine[:3, :3] = np.reshape(image.GetDirection(), (axes, axes))[:3, :3] * image.GetSpacing()[:3]
        affine[:3, 3] = image.GetOrigin()[:3]
    return ItkImage(
        values=itk.GetArrayFromImage(image),
        affine=affine,
        components=image.GetNumberOfComponentsPerPixel(),
        keys=frozenset(image.GetMetaDataKeys()),
    )
