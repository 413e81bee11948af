"""TensorRT's messages: errors are kept for lnsdk's own, the rest is left out."""

from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import tensorrt as trt

KEPT = 3
"""Errors that are told: the first of them are the cause."""


class Library(Protocol):
    """The module ``tensorrt``, or ``tensorrt_lean``, which has the runtime alone."""

    __version__: str

    def __hash__(self) -> int:
        """Modules are hashable."""

    @property
    def ILogger(self) -> "type[trt.ILogger]":  # noqa: N802
        """Base class of loggers."""

    @property
    def Runtime(self) -> "type[trt.Runtime]":  # noqa: N802
        """Reads engines."""

    @property
    def ExecutionContextAllocationStrategy(self) -> "type[trt.ExecutionContextAllocationStrategy]":  # noqa: N802
        """Who allocates a context's memory."""


class Log:
    """A logger for TensorRT, and the errors that it was told since `clear`."""

    def __init__(self, library: Library) -> None:
        errors: list[str] = []
        severe = (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR)

        class Logger(library.ILogger):  # type: ignore[name-defined, misc]  # a class of one of the two modules
            def __init__(self) -> None:
                library.ILogger.__init__(self)  # pybind11 wants it called by name

            def log(self, severity: "trt.Severity", msg: str) -> None:
                if severity in severe:
                    errors.append(" ".join(msg.split()))

        self.logger: trt.ILogger = Logger()
        self._errors = errors

    def clear(self) -> None:
        """Forget the errors so far."""
        self._errors.clear()

    def reason(self) -> str:
        """Return the errors in one line."""
        return "; ".join(self._errors[:KEPT]) or "it gives no reason"


@cache
def log(library: Library) -> Log:
    """Return the process's log: TensorRT keeps the first logger that it is given, and warns of others."""
    return Log(library)
