"""What commands share: options, the output folder, the progress bar and tables."""

import os
from argparse import REMAINDER, ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from lnsdk.errors import BackendUnavailable, InputError

if TYPE_CHECKING:
    from rich.table import Table

    from lnsdk.pipelines.detector import Progress


DATA_VARIABLE = "LNSDK_DATA"
"""Environment variable that names the folder with the real CTs."""


PHANTOMS_ALONE = ", or pass --phantoms-only to use phantom CTs alone"
"""What else a user without real CTs can do where simulated patients are made."""


def real_cts(given: Path | None, phantoms_only: bool = False, otherwise: str = "") -> Path | None:
    """Folder with the real CTs: the one that was given, else that of `DATA_VARIABLE`; None for phantoms only.

    `otherwise` is what else the user can do, for the error.

    Raises
    ------
    InputError
        ``no-data`` when none is named, or it is not there.
    """
    if phantoms_only:
        return None
    named = given or os.environ.get(DATA_VARIABLE)
    if named is None:
        raise InputError("no-data", f"name the folder with the real CTs (--data DIR or {DATA_VARIABLE}){otherwise}")
    if not Path(named).is_dir():
        raise InputError("no-data", f"there is no folder at {named}; --data names the folder that holds ct/")
    return Path(named)


def trainers(module: str) -> ModuleType:
    """A module of the training code, which needs the `train` extra.

    Raises
    ------
    BackendUnavailable
        When something that it needs is not installed.
    """
    return _extra(f"lnsdk.trainers.{module}", "training")


def exporter(module: str) -> ModuleType:
    """A module of the exporters, which need the `train` extra.

    Raises
    ------
    BackendUnavailable
        When something that it needs is not installed.
    """
    return _extra(f"lnsdk.export.{module}", "export")


def _extra(module: str, what: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("lnsdk"):
            raise
        raise BackendUnavailable(f"{what}: {error}; install it with `pip install 'lnsdk[train]'`") from error


def names(text: str) -> list[str]:
    """Read names that are separated by commas."""
    return [name.strip() for name in text.split(",")]


def command_parser(command: str, description: str, examples: Sequence[str]) -> ArgumentParser:
    """Return a parser whose help ends with examples."""
    return ArgumentParser(
        prog=f"lnsdk {command}",
        description=description,
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=RawDescriptionHelpFormatter,
    )


class Subcommand(NamedTuple):
    """What runs a command's part, and what it does."""

    main: Callable[[Sequence[str]], int]
    summary: str


def run_subcommand(
    command: str, what: str, parts: Mapping[str, Subcommand], examples: Sequence[str], arguments: Sequence[str]
) -> int:
    """Run the part of a command that was asked for.

    Parameters
    ----------
    command : str
        Name of the command.
    what : str
        What all of its parts do.
    parts : mapping of str to Subcommand
        By their names.
    examples : sequence of str
        For the help.
    arguments : sequence of str
        The part's name and its arguments.
    """
    width = max(map(len, parts))
    summaries = "\n".join(f"  {name:<{width}}  {part.summary}" for name, part in parts.items())
    parser = command_parser(command, f"{what}\n\nparts:\n{summaries}", examples)
    parser.add_argument("part", choices=parts, help="which of these")
    parser.add_argument(
        "options", nargs=REMAINDER, help=f"its options: `lnsdk {command} PART --help` shows them with examples"
    )
    given = parser.parse_args(arguments)
    return parts[given.part].main(given.options)


def score(text: str) -> float:
    """Read a score from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def positive(text: str) -> int:
    """Read a whole number from 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return value


def distance(text: str) -> float:
    """Read a finite number from 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"must be a finite number of at least 0, got {text!r}")
    return value


def natural(text: str) -> int:
    """Read a whole number from 0."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise ArgumentTypeError(f"must be a whole number of at least 0, got {text!r}")
    return value


def output_folder(path: Path) -> Path:
    """Make the folder that results are written to, and make sure that it can be written to.

    Raises
    ------
    InputError
        ``output-folder`` if it cannot.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path).close()
    return path


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses while results are written into an InputError ``output-folder``."""
    try:
        yield
    except OSError as error:
        raise InputError("output-folder", f"cannot write to {folder}: {error.strerror or error}") from error


@contextmanager
def progress_bar(what: str) -> Iterator["Progress"]:
    """Show a bar on standard error while something long runs; nothing is shown when that is not a terminal.

    Yields
    ------
    callable
        ``update(done, total)``.
    """
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def plain_table(title: str, columns: Sequence[tuple[str, str]]) -> "Table":
    """Return an empty table; columns are a title and ``"left"`` or ``"right"``."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False)
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    return table


def timing_line(timings: Mapping[str, float]) -> str:
    """Return the time by stage in words."""
    stages = ", ".join(f"{stage} {_seconds(value)}" for stage, value in timings.items() if stage != "total")
    return f"{_seconds(timings['total'])} in all: {stages}"


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.2f} s"
