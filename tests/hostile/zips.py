"""Zips that unpack to harm; each is an ordinary bundle but for one thing."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HUGE = 1 << 28
"""Bytes that a bomb unpacks to: a quarter of a gigabyte of zeros from 260 kB."""


@contextmanager
def ordinary(bundle: Path, path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip of the bundle, to which something is added."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(bundle.rglob("*")):
            if file.is_file():
                archive.write(file, str(file.relative_to(bundle)))
        yield archive


def bomb(bundle: Path, path: Path) -> None:
    """One file that grows a thousandfold."""
    with ordinary(bundle, path) as archive, archive.open("docs/bomb", "w") as file:
        for _ in range(HUGE >> 20):
            file.write(bytes(1 << 20))


def many(bundle: Path, path: Path) -> None:
    """More files than a bundle may hold."""
    with ordinary(bundle, path) as archive:
        for number in range(1001):
            archive.writestr(f"docs/{number}", b"")


def overlapping(bundle: Path, path: Path) -> None:
    """Two entries of the directory that share the same bytes, of which a bomb can be built without any ratio."""
    with ordinary(bundle, path) as archive:
        first, second = archive.getinfo("models/image.onnx"), archive.getinfo("models/head.onnx")
        second.header_offset = first.header_offset


def lying(bundle: Path, path: Path) -> None:
    """A directory that gives a file another size than it has."""
    with ordinary(bundle, path) as archive:
        entry = archive.getinfo("models/image.onnx")
        entry.file_size = 0xFFFFFF00


def climbing(bundle: Path, path: Path) -> None:
    """A file that lands outside the folder it is unpacked to."""
    with ordinary(bundle, path) as archive:
        archive.writestr("../../evil", b"")


def squeezed(bundle: Path, path: Path) -> None:
    """A file in a compression whose reader takes its memory from the archive."""
    with ordinary(bundle, path) as archive:
        archive.writestr("docs/squeezed", bytes(100), zipfile.ZIP_LZMA)


def from_the_future(bundle: Path, path: Path) -> None:
    """A directory that asks for a version of the format that there is not."""
    with ordinary(bundle, path):
        pass
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 255
    path.write_bytes(content)


ZIPS: list[tuple[Callable[[Path, Path], None], str, str]] = [
    (bomb, "bundle-size", r"docs/bomb unpacks to 268435456 bytes from \d+, which no model does"),
    (many, "bundle-size", r"holds \d+ files; at most 1000"),
    (overlapping, "bundle-hash", r"models/(image|head)\.onnx is damaged|differ"),
    (lying, "bundle-size", r"models/image\.onnx unpacks to 4294967040 bytes"),
    (climbing, "bundle-path", "names a file outside itself"),
    (squeezed, "bundle-file", "docs/squeezed is compressed otherwise than by deflate"),
    (from_the_future, "bundle-missing", "is neither a bundle folder nor a zip of one"),
]
"""What makes one, and the reason and message with which it is refused."""
