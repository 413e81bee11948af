"""Attributes of a DICOM dataset as plain Python values.

Values are taken from the raw bytes where pydicom has not converted them yet: pydicom's own conversion warns about every
value that breaks a length or character rule, which real scanners do, and is ten times slower for whole series.
"""

from __future__ import annotations

import math
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset


def strings(dataset: Dataset, keyword: str) -> list[str]:
    """Return the values of a text attribute without padding; empty when it is absent."""
    element = dataset.get_item(keyword)
    if element is None or element.value is None:
        return []
    if isinstance(element.value, bytes):
        return [part.strip(" \0") for part in _text(element.value).split("\\")] if element.value.strip(b" \0") else []
    if isinstance(element.value, (str, int, float)):
        return [str(element.value)]
    return [str(part) for part in element.value]


def string(dataset: Dataset, keyword: str) -> str:
    """Return the first value of a text attribute, or an empty string."""
    return next(iter(strings(dataset, keyword)), "")


def title(dataset: Dataset, keyword: str) -> str:
    """Return a text attribute as one printable line, whatever it holds."""
    return " ".join("".join(c if c.isprintable() else " " for c in "\\".join(strings(dataset, keyword))).split())


def numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Return the values of a decimal attribute, or None when it is absent or empty.

    Raises
    ------
    ValueError
        When they are not `count` finite numbers.
    """
    values = strings(dataset, keyword)
    if not values:
        return None
    try:
        parsed = tuple(float(value) for value in values)
    except ValueError:
        parsed = ()
    if len(parsed) != count or not all(math.isfinite(value) for value in parsed):
        found = "\\".join(values)[:60]
        raise ValueError(f"{keyword} is {found!r} where {count} finite number(s) belong")
    return parsed


def integer(dataset: Dataset, keyword: str) -> int | None:
    """Return the first value of an integer attribute, text (IS) or binary (US, SS read as US), or None.

    Raises
    ------
    ValueError
        When it is no integer.
    """
    element = dataset.get_item(keyword)
    if element is None or element.value is None or element.value == b"":
        return None
    if isinstance(element, RawDataElement) and isinstance(element.value, bytes):
        if _is_binary(keyword):
            return int.from_bytes(element.value[:2], "little" if element.is_little_endian else "big")
        return _parse_integer(keyword, string(dataset, keyword))
    value: Any = element.value
    return _parse_integer(keyword, str(value if isinstance(value, (str, int)) else next(iter(value), "")))


def item(dataset: Dataset | None, keyword: str) -> Dataset | None:
    """Return the first item of a sequence attribute, or None when it is absent or empty."""
    return next(iter(items(dataset, keyword)), None)


def items(dataset: Dataset | None, keyword: str) -> list[Dataset]:
    """Return the items of a sequence attribute."""
    if dataset is None or keyword not in dataset:
        return []
    return list(dataset[keyword].value or [])


def _parse_integer(keyword: str, text: str) -> int | None:
    if not text:
        return None
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise ValueError(f"{keyword} is {text[:60]!r} where an integer belongs") from None


def _is_binary(keyword: str) -> bool:
    return keyword not in ("InstanceNumber", "SeriesNumber", "NumberOfFrames")


def _text(value: bytes) -> str:
    # Scanners mislabel their character set often enough that the bytes are the better witness: text that is valid
    # UTF-8 (ASCII included) is hardly ever anything else.
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
