"""What a user sees of a build that takes minutes: bars on standard error, nothing where that is no terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorrt as trt
    from rich.progress import Progress, TaskID


@contextmanager
def build_progress(title: str) -> Iterator["trt.IProgressMonitor"]:
    """Show a bar for every phase of a build.

    Parameters
    ----------
    title : str
        What is built.

    Yields
    ------
    tensorrt.IProgressMonitor
        For `IBuilderConfig.progress_monitor`; TensorRT calls it from its own threads.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        bars.add_task(title, total=None)
        yield _monitor(bars)


def _monitor(bars: "Progress") -> "trt.IProgressMonitor":
    import tensorrt as trt

    tasks: dict[str, TaskID] = {}

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # pybind11 wants it called by name

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            tasks[phase_name] = bars.add_task(phase_name, total=num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            bars.update(tasks[phase_name], completed=step + 1)
            return True  # False would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            bars.remove_task(tasks.pop(phase_name))

    return Monitor()
