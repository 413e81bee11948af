"""What commands share: options, the output folder, the progress bar and tables."""

from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from lnsdk.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from lnsdk.pipelines.detector import Progress


def command_parser(command: str, description: str, examples: Sequence[str]) -> ArgumentParser:
    """Return a parser whose help ends with examples."""
    return ArgumentParser(
        prog=f"lnsdk {command}",
        description=description,
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=RawDescriptionHelpFormatter,
    )


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
