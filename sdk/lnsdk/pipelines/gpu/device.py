"""What the detection on a GPU asks of CUDA: memory for kernels, recorded work, and when what was done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from threading import Lock
from typing import Any, Protocol, TypeAlias

from lnsdk.pipelines.timing import Stopwatch

Tensor: TypeAlias = Any
"""A torch.Tensor; torch is no requirement of lnsdk."""

Step: TypeAlias = Callable[..., tuple[Tensor, ...]]
"""From tensors to tensors, always of the same shapes."""

_recording = Lock()
"""CUDA allows one recording at a time."""


class Clock(Protocol):
    """Adds up stages of a device, whose work goes on when a call has returned."""

    def __call__(self, stage: str) -> Any:
        """Context in which work of a stage is queued."""

    def stop(self) -> None:
        """Wait for all of it and add its milliseconds to a stopwatch."""


class Device(Protocol):
    """A device that torch and the kernels of `lnsdk.ops.cuda` share."""

    name: str
    """Torch's name of it."""

    def for_kernels(self, tensor: Tensor) -> Any:
        """A tensor's memory as `lnsdk.ops.cuda` takes it."""

    def stream(self) -> int:
        """Handle of the stream that torch queues its work on now."""

    def memory(self) -> Any:
        """Memory that steps which never run at the same time may share."""

    def record(self, step: Step, example: Sequence[Tensor], memory: Any) -> Step:
        """A step that does what another does with inputs like the example's; its outputs hold until it runs again."""

    def clock(self, watch: Stopwatch) -> Clock:
        """A clock for one volume."""


class Cuda:
    """An NVIDIA GPU."""

    name = "cuda"

    def for_kernels(self, tensor: Tensor) -> Any:
        """The tensor itself."""
        return tensor

    def stream(self) -> int:
        """Handle of torch's current stream."""
        return int(_torch().cuda.current_stream().cuda_stream)

    def memory(self) -> Any:
        """A pool of torch's allocator."""
        return _torch().cuda.graph_pool_handle()

    def record(self, step: Step, example: Sequence[Tensor], memory: Any) -> Step:
        """Record a step as a CUDA graph, so that one call of the driver queues all of its kernels."""
        return _Recorded(step, example, memory)

    def clock(self, watch: Stopwatch) -> Clock:
        """A clock that reads the GPU's own events."""
        return _EventClock(watch)


class _Recorded:
    """A CUDA graph with its own inputs and outputs. It keeps the step, whose scratch memory the graph writes to."""

    def __init__(self, step: Step, example: Sequence[Tensor], memory: Any) -> None:
        cuda = _torch().cuda
        self._step = step
        self._inputs = [tensor.clone() for tensor in example]
        aside = cuda.Stream()
        aside.wait_stream(cuda.current_stream())
        with cuda.stream(aside):
            step(*self._inputs)  # torch, cuDNN and numba choose, compile and allocate in the first call
        cuda.current_stream().wait_stream(aside)
        self._graph = cuda.CUDAGraph()
        # Other threads go on with the GPU meanwhile; nothing of numba's may be freed inside of a recording.
        with (
            _recording,
            import_module("numba.cuda").defer_cleanup(),
            cuda.graph(self._graph, pool=memory, capture_error_mode="thread_local"),
        ):
            self._outputs = step(*self._inputs)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._outputs


class _EventClock:
    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch
        self._spans: list[tuple[str, Any, Any]] = []

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        begin, end = (_torch().cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._spans.append((stage, begin, end))

    def stop(self) -> None:
        _torch().cuda.synchronize()
        for stage, begin, end in self._spans:
            self._watch.stages[stage] += begin.elapsed_time(end)


def _torch() -> Any:
    return import_module("torch")
