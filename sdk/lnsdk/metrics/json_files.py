"""Reading JSON that anybody may have written: every way in which it can be unfit is one error, in one line."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lnsdk.errors import InputError


def read_json(file: Path) -> Any:
    """Read a file of JSON in UTF-8.

    Raises
    ------
    InputError
        ``missing-path`` when it cannot be opened, ``bad-boxes`` when it is something else, names a thing twice or is
        nested too deeply.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError("missing-path", f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError("bad-boxes", f"{file} is no JSON file in UTF-8: {error}") from error
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except RecursionError as error:
        raise InputError("bad-boxes", f"{file} is nested too deeply to be a file of boxes") from error
    except ValueError as error:
        raise InputError("bad-boxes", f"{file} cannot be read as JSON: {error}") from error


def _each_once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; JSON's own reader takes the last of several volumes of one name without a word."""
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"{name!r} is there twice")
        result[name] = value
    return result


def short(value: object) -> str:
    """A value of a file as a message shows it."""
    try:
        text = json.dumps(value)
    except RecursionError:  # nested just as deeply as the reader of JSON allows
        return "a deeply nested list"
    return text if len(text) <= 80 else f"{text[:77]}..."
