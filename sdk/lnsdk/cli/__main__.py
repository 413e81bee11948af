"""The ``lnsdk`` command: finds the module of a command and turns what is wrong with its input into one line."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from lnsdk._version import __version__
from lnsdk.errors import BackendUnavailable, InputError

DONE = 0
NOT_DONE = 1
UNUSABLE = 2
"""Exit codes: the work was done, it could not be done, the input or the command cannot be used."""


@dataclass(frozen=True)
class Command:
    """Where a command is and what it does; its module is imported when the command is called."""

    module: str
    summary: str


COMMANDS = {
    "detect": Command("lnsdk.cli.detect", "find lesions in a CT: JSON, CSV and a picture"),
    "demo": Command("lnsdk.cli.demo", "make a phantom CT with known lesions, and detect on it"),
    "train": Command("lnsdk.cli.train", "train a method"),
    "evaluate": Command("lnsdk.cli.evaluate", "measure a detector, or score files of detections"),
    "export": Command("lnsdk.cli.export", "turn a trained network into a bundle"),
    "verify": Command("lnsdk.cli.verify", "compare this machine's engines with the float32 reference"),
    "bench": Command("lnsdk.cli.bench", "time every engine of this machine, and compare what it finds"),
    "bundle": Command("lnsdk.cli.bundle", "sign a bundle, or check its files and signatures"),
    "doctor": Command("lnsdk.cli.doctor", "check kernels, engines and the default model"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command's name and its arguments; None takes them from the command line.

    Returns
    -------
    int
        0 only when the work was done; 2 when the input or an engine cannot be used, after one line on standard error
        that says why.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(_help())
        return DONE if given else UNUSABLE
    if given[0] == "--version":
        print(f"lnsdk {__version__}")
        return DONE
    if given[0] not in COMMANDS:
        return _refuse(f"unknown command {given[0]!r}; it must be one of {', '.join(COMMANDS)} (see lnsdk --help)")
    _show_messages()
    try:
        code: int = import_module(COMMANDS[given[0]].module).main(given[1:])
    except (InputError, BackendUnavailable) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("lnsdk: interrupted", file=sys.stderr)
        return NOT_DONE
    return code


class _Messages(logging.Handler):
    """Writes the library's messages, of which there are few, to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"lnsdk: {record.getMessage()}", file=sys.stderr)


def _show_messages() -> None:
    logger = logging.getLogger("lnsdk")
    if not any(isinstance(handler, _Messages) for handler in logger.handlers):
        logger.addHandler(_Messages())
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    return (
        "usage: lnsdk COMMAND [OPTIONS]\n\n"
        "Finds lesions and lymph nodes in CT, in patient coordinates. Not a medical device.\n\n"
        f"commands:\n{commands}\n\n"
        "options:\n"
        "  -h, --help  show this; `lnsdk COMMAND --help` shows a command's options and examples\n"
        "  --version   show the version\n\n"
        "examples:\n"
        "  lnsdk detect ct_folder -o out\n"
        "  lnsdk demo -o demo_out"
    )


def _refuse(message: str) -> int:
    print(f"lnsdk: {' '.join(message.split())}", file=sys.stderr)
    return UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
