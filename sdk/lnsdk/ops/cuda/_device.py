"""What all functions on the device share: their arrays, their streams, their scratch memory and their kernels."""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, Protocol, TypeAlias

import numpy as np
from numba import cuda
from numba.core import config
from numba.cuda.cudadrv import nvvm
from numpy.typing import DTypeLike

from lnsdk.errors import BackendUnavailable


class OnDevice(Protocol):
    """An array in the memory of a GPU: a CUDA tensor of torch, an array of CuPy or of numba."""

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]:
        """Address, shape and type."""


DeviceArray: TypeAlias = Any
"""numba's ``DeviceNDArray``; ``torch.as_tensor`` and ``cupy.asarray`` take it without a copy."""

Stream: TypeAlias = Any
"""numba's ``Stream``, or the handle of a stream as an int; 0 is the default stream."""

_lock = Lock()


class Kernel:
    """One CUDA kernel: its Python function, its signature, and its compiled form once it was launched.

    Parameters
    ----------
    function : callable
        Typed Python over device arrays; writes its result into an argument.
    signature : str
        numba's signature.
    """

    def __init__(self, function: Callable[..., None], signature: str) -> None:
        self.function = function
        self.signature = signature
        self._compiled: Any = None

    def launch(self, grid: int | tuple[int, ...], block: int | tuple[int, ...], stream: Stream, *args: Any) -> None:
        """Queue the kernel on the stream, compiling it first if need be."""
        with _lock:
            if self._compiled is None:
                self._compiled = cuda.jit(self.signature)(self.function)
            previous = config.CUDA_LOW_OCCUPANCY_WARNINGS  # for grids that are small because the data are
            config.CUDA_LOW_OCCUPANCY_WARNINGS = 0
            try:
                configured = self._compiled[grid, block, stream]
            finally:
                config.CUDA_LOW_OCCUPANCY_WARNINGS = previous
        configured(*args)


class Workspace:
    """Scratch memory that the calls on one stream may share.

    Without one, a call allocates its scratch memory and gives it back; CUDA waits for the device when memory is given
    back. A program that must never wait keeps one workspace per stream. It grows to what the largest call needs, and is
    not to be used from two threads at once.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, DeviceArray] = {}

    def buffer(self, name: str, size: int, dtype: DTypeLike) -> DeviceArray:
        """Return memory for ``size`` values or more, whatever they are; the name always has the same type."""
        found = self._buffers.get(name)
        if found is None or found.size < size:
            found = self._buffers[name] = cuda.device_array(max(1, size), dtype)
        return found


def require_gpu() -> None:
    """Raise ``BackendUnavailable`` saying what is missing, unless kernels can be compiled and run here."""
    if cuda.is_available():
        return
    if cuda.cuda_error():
        reason = " ".join(str(cuda.cuda_error()).split())
        raise BackendUnavailable(f"lnsdk.ops.cuda needs an NVIDIA GPU and its driver: {reason}")
    if not nvvm.is_available():
        raise BackendUnavailable(
            "lnsdk.ops.cuda compiles its kernels with libnvvm and libdevice, which numba does not find: install the "
            "CUDA toolkit, or `pip install nvidia-cuda-nvcc-cu12` and set CUDA_HOME to its folder nvidia/cuda_nvcc"
        )
    raise BackendUnavailable("lnsdk.ops.cuda needs an NVIDIA GPU, and the driver finds none")


def stream_of(stream: Stream) -> Stream:
    """Return numba's stream for a handle; numba's own streams and 0 are returned as they are."""
    return cuda.external_stream(stream) if isinstance(stream, int) and stream != 0 else stream


def array(values: OnDevice, name: str, stream: Stream) -> DeviceArray:
    """Return the array as numba's, in the same memory, for work on the stream.

    Where the array names the stream it is written on, the device (not the caller) waits for that stream first.
    """
    require_gpu()
    if not getattr(values, "__cuda_ndarray__", False):
        if not hasattr(values, "__cuda_array_interface__"):
            raise TypeError(
                f"{name} must be on the device (have __cuda_array_interface__), got {type(values).__name__}"
            )
        values = cuda.as_cuda_array(values, sync=False)
    found: DeviceArray = values
    if found.size and not found.is_c_contiguous():
        raise ValueError(f"{name} must be C-contiguous, got strides {found.strides} bytes; copy it on the device first")
    if found.stream and found.stream is not stream:
        ready = cuda.event()
        ready.record(found.stream)
        ready.wait(stream)
    return found


def float32(values: OnDevice, name: str, shape: Sequence[int | None], stream: Stream) -> DeviceArray:
    """Return :func:`array` after checking type and shape; None stands for any length."""
    found = array(values, name, stream)
    if found.dtype != np.float32:
        raise TypeError(f"{name} must be float32, got {found.dtype}")
    lengths = tuple(found.shape)
    if len(lengths) != len(shape) or any(want not in (None, have) for want, have in zip(shape, lengths, strict=True)):
        expected = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} must have shape ({expected}), got {lengths}")
    return found


def output(
    out: OnDevice | None, name: str, shape: Sequence[int], dtype: DTypeLike, stream: Stream
) -> tuple[Any, DeviceArray]:
    """Return what the function hands back, and the same memory as numba's array: a new one, or ``out`` once checked."""
    expected = tuple(int(length) for length in shape)
    if out is None:
        require_gpu()
        made = cuda.device_array(expected, np.dtype(dtype), stream=stream)
        return made, made
    found = array(out, name, stream)
    if found.dtype != dtype:
        raise TypeError(f"{name} must be {np.dtype(dtype)} like the output, got {found.dtype}")
    if tuple(found.shape) != expected:
        raise ValueError(f"{name} must have the shape of the output, {expected}, got {tuple(found.shape)}")
    return out, found


def address(values: DeviceArray) -> int:
    """Return where the array lies in memory."""
    if config.ENABLE_CUDASIM:
        return int(values.ctypes.data)
    return int(values.__cuda_array_interface__["data"][0])


def blocks(count: int, block: int) -> int:
    """Return how many blocks of so many threads cover ``count`` items, at least one."""
    return max(1, -(-count // block))
