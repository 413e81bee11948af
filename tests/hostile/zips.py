"""Zips that unpack to harm."""

import struct
import zipfile
from pathlib import Path

from lnsdk.bundle import METADATA

HUGE = 1 << 28
"""Bytes that a bomb unpacks to: a quarter of a gigabyte of zeros from 260 kB."""


def bomb(bundle: Path, path: Path) -> Path:
    """One file that grows a thousandfold."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(bundle / METADATA, METADATA)
        with archive.open("models/image.onnx", "w") as file:
            for _ in range(HUGE >> 20):
                file.write(bytes(1 << 20))
    return path


def many(bundle: Path, path: Path) -> Path:
    """More files than a bundle may hold."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(bundle / METADATA, METADATA)
        for number in range(1001):
            archive.writestr(f"docs/{number}", b"")
    return path


def overlapping(bundle: Path, path: Path) -> Path:
    """Two entries of the directory that share the same bytes, of which a bomb can be built without any ratio."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(bundle / METADATA, METADATA)
        archive.writestr("models/image.onnx", b"first")
        archive.writestr("models/other.onnx", b"other")
        first, other = archive.getinfo("models/image.onnx"), archive.getinfo("models/other.onnx")
        other.header_offset = first.header_offset
    return path


def lying(bundle: Path, path: Path) -> Path:
    """A directory that gives a file a larger size than it has."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(bundle.rglob("*")):
            if file.is_file():
                archive.write(file, str(file.relative_to(bundle)))
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 20 : entry + 28] = struct.pack("<II", 0xFFFFFF00, 0xFFFFFF00)  # compressed, unpacked
    path.write_bytes(content)
    return path


def climbing(bundle: Path, path: Path) -> Path:
    """A file that lands outside the folder it is unpacked to."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(bundle / METADATA, METADATA)
        archive.writestr("../../evil", b"")
    return path


ZIPS = {make.__name__: make for make in (bomb, many, overlapping, lying, climbing)}
