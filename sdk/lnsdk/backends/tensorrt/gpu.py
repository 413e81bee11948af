"""The first CUDA GPU, by pycuda on its primary context, which torch and numba use as well."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from lnsdk.errors import BackendUnavailable

if TYPE_CHECKING:
    import pycuda.driver as cuda

INSTALL = "pip install 'lnsdk[tensorrt]'"


class Stream(Protocol):
    """A queue of work on the GPU."""

    @property
    def handle(self) -> int:
        """What CUDA's own interface calls it."""

    def synchronize(self) -> None:
        """Wait until its work is done."""


class Gpu:
    """A GPU whose primary context is current only within `current`, so that it gets in nobody's way.

    Attributes
    ----------
    name : str
        The product's name.
    compute_capability : str
        Such as ``"8.7"``.

    Raises
    ------
    BackendUnavailable
        If pycuda cannot be imported, or the driver finds no GPU; the message says what to do.
    """

    def __init__(self) -> None:
        try:
            import pycuda.driver as cuda
        except (ImportError, OSError) as error:  # libcuda.so.1, the driver's library, is missing
            raise BackendUnavailable(
                f"tensorrt: {error}; install it with `{INSTALL}` on a machine with an NVIDIA driver"
            ) from error
        try:
            cuda.init()
            if cuda.Device.count() == 0:
                raise BackendUnavailable("tensorrt: the driver finds no NVIDIA GPU; use device='cpu'")
            device = cuda.Device(0)
            self.name = device.name()
            self.compute_capability = ".".join(map(str, device.compute_capability()))
            self._context = device.retain_primary_context()
        except cuda.Error as error:
            raise BackendUnavailable(f"tensorrt: no GPU can be used ({error}); use device='cpu'") from error
        self._cuda = cuda
        self._process = os.getpid()

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one that opened the GPU, where CUDA does not work."""
        return os.getpid() != self._process

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the primary context current in this thread.

        Raises
        ------
        BackendUnavailable
            In a forked process.
        RuntimeError
            If a call of CUDA fails; the message is the driver's.
        """
        if self.forked:
            raise BackendUnavailable(
                "tensorrt: this process was forked after the GPU was opened, which CUDA does not survive; load the "
                "network in each process, start processes with 'spawn', or use backend='onnx'"
            )
        self._context.push()
        try:
            yield
        except self._cuda.Error as error:
            raise RuntimeError(f"tensorrt: the GPU failed: {error}") from error
        finally:
            self._cuda.Context.pop()

    # What follows is called within `current`.

    def stream(self) -> Stream:
        """Return a new stream."""
        return self._cuda.Stream()

    def synchronize(self) -> None:
        """Wait for all work of the GPU."""
        self._cuda.Context.synchronize()

    def upload(self, buffer: "Buffer", array: NDArray[np.float32], stream: Stream) -> None:
        """Queue a copy to the GPU; the array must live until it is done."""
        self._cuda.memcpy_htod_async(buffer.reserve(array.nbytes), array, cast("cuda.Stream", stream))

    def download(self, array: NDArray[np.float32], buffer: "Buffer", stream: Stream) -> None:
        """Queue a copy from the GPU; the values are there once the stream is done."""
        self._cuda.memcpy_dtoh_async(array, buffer.reserve(array.nbytes), cast("cuda.Stream", stream))

    def allocate(self, size: int) -> "cuda.DeviceAllocation":
        """Return memory of so many bytes, aligned to 256."""
        return self._cuda.mem_alloc(size)


class Buffer:
    """Memory of the GPU that grows to the largest size that it was asked for, and stays."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._size = 0
        self._memory: cuda.DeviceAllocation | None = None

    def reserve(self, size: int) -> "cuda.DeviceAllocation":
        """Return the memory, grown to `size` bytes; what it held is lost when it grows."""
        if self._memory is None or size > self._size:
            self._memory = None  # freed first, which waits for the GPU, so that both need not fit
            self._memory = self._gpu.allocate(max(1, size))
            self._size = size
        return self._memory

    def address(self, size: int) -> int:
        """Address of the memory, grown to `size` bytes."""
        return int(self.reserve(size))


@cache
def first_gpu() -> Gpu:
    """Return the GPU, opened once per process."""
    return Gpu()
