"""A graph's engine in memory: one execution context, stream and set of buffers per thread."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lnsdk.backends.base import Graph, Profile, Session, Shape, Signature, Tensors, check_signature
from lnsdk.backends.tensorrt.gpu import Buffer, Gpu
from lnsdk.backends.tensorrt.log import Library, log
from lnsdk.errors import InputError

if TYPE_CHECKING:
    import tensorrt as trt


class OnDevice(Protocol):
    """An array in the memory of a GPU: a CUDA tensor of torch, an array of CuPy or of numba."""

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]:
        """Address, shape and type."""


@dataclass(frozen=True)
class DeviceTensor:
    """A float32 tensor in a session's memory, in C order, that torch, CuPy and numba take without a copy.

    Attributes
    ----------
    shape : tuple of int
        Its sizes.
    address : int
        Where it lies.
    owner : object
        Keeps the memory.
    """

    shape: tuple[int, ...]
    address: int
    owner: object

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]:
        """Address, shape and type; version 3 of the interface."""
        return {"shape": self.shape, "typestr": "<f4", "data": (self.address, False), "version": 3}


class Engine:
    """A deserialized engine with the runtime that it needs to live.

    Parameters
    ----------
    library : Library
        ``tensorrt`` or ``tensorrt_lean``.
    content : bytes
        Of an engine that this library, on this GPU, built or may run.

    Raises
    ------
    InputError
        ``bundle-graph`` if it is refused.
    """

    def __init__(self, graph: Graph, library: Library, content: bytes) -> None:
        messages = log(library)
        messages.clear()
        self.module = library
        self._runtime = library.Runtime(messages.logger)
        self._runtime.engine_host_code_allowed = True  # version-compatible engines hold the lean runtime
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise InputError("bundle-graph", f"TensorRT cannot load graph {graph.name!r}: {messages.reason()}")
        self.engine = engine

    def context(self) -> "trt.IExecutionContext":
        """Return a context without memory of its own."""
        made = self.engine.create_execution_context(self.module.ExecutionContextAllocationStrategy.USER_MANAGED)
        if made is None:
            raise RuntimeError(f"tensorrt: no execution context: {log(self.module).reason()}")
        return made


class TensorRTSession(Session):
    """A graph as an engine of TensorRT.

    Parameters
    ----------
    graph : Graph
        What the engine was built from.
    profile : Profile
        Shapes that it takes.
    gpu : Gpu
        Where it runs.
    engine : Engine
        Loaded.

    Raises
    ------
    InputError
        ``bundle-signature`` if it has other tensors than the graph promises.
    """

    def __init__(self, graph: Graph, profile: Profile, gpu: Gpu, engine: Engine) -> None:
        super().__init__(graph)
        check_signature(graph, _signature(graph, engine.engine))
        self._profile = profile
        self._gpu = gpu
        self._engine = engine
        self._threads = threading.local()

    def run_on_device(self, inputs: Mapping[str, OnDevice], stream: int = 0) -> dict[str, DeviceTensor]:
        """Run the graph on data that are on the GPU already, such as what `lnsdk.ops.cuda` gives; nothing is copied.

        The work is queued on the stream, and nothing is waited for. Values are not looked at: NaN is the caller's to
        keep out.

        Parameters
        ----------
        inputs : mapping of str to array on the device
            As for `run`: float32, C-contiguous. They must live until the stream has passed the call.
        stream : int
            Handle of the stream that the inputs are made on, 0 for the default stream.

        Returns
        -------
        dict of str to DeviceTensor
            One per output. They hold until this thread calls the session again.

        Raises
        ------
        ValueError
            If names, shapes or batch sizes are not those of the signature, or an array is not C-contiguous.
        TypeError
            If an array is not float32, or not on the device.
        RuntimeError
            If the engine fails.
        """
        tensors = {name: _device_view(name, array) for name, array in inputs.items()}
        self._check_inputs(tensors)
        self._check_profile({name: tensor.shape for name, tensor in tensors.items()})
        with self._gpu.current():
            return self._executor().run({name: (t.shape, t.address) for name, t in tensors.items()}, stream)

    def _run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        self._check_profile({name: array.shape for name, array in inputs.items()})
        with self._gpu.current():
            return self._executor().run_on_host(inputs)

    def _executor(self) -> "_Executor":
        found: _Executor | None = getattr(self._threads, "executor", None)
        if found is None:
            found = self._threads.executor = _Executor(self.graph, self._gpu, self._engine)
        return found

    def _check_profile(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            smallest, _, largest = self._profile[name]
            if any(not low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True)):
                raise ValueError(
                    f"input {name!r} of graph {self.graph.name!r} has shape {shape}; its TensorRT engine takes "
                    f"{smallest} to {largest}: use another backend for such sizes"
                )


class _Executor:
    """What one thread needs to run an engine. It is made and used while the GPU's context is current."""

    def __init__(self, graph: Graph, gpu: Gpu, engine: Engine) -> None:
        self._graph = graph
        self._gpu = gpu
        self._engine = engine
        self._context = engine.context()
        self._stream = gpu.stream()
        self._last_stream = self._stream.handle
        self._scratch = Buffer(gpu)
        self._buffers = {name: Buffer(gpu) for name in (*graph.signature.inputs, *graph.signature.outputs)}

    def run_on_host(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Copy to the GPU, run, copy back, wait."""
        arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        for name, array in arrays.items():
            self._gpu.upload(self._buffers[name], array, self._stream)
        given = {name: (array.shape, self._buffers[name].address(array.nbytes)) for name, array in arrays.items()}
        found = self.run(given, self._stream.handle)
        outputs = {name: np.empty(tensor.shape, np.float32) for name, tensor in found.items()}
        for name, array in outputs.items():
            self._gpu.download(array, self._buffers[name], self._stream)
        self._stream.synchronize()
        return outputs

    def run(self, inputs: Mapping[str, tuple[tuple[int, ...], int]], stream: int) -> dict[str, DeviceTensor]:
        """Queue a run on a stream; inputs are shapes and addresses."""
        if stream != self._last_stream:  # the memory that another stream may still use
            self._gpu.synchronize()
            self._last_stream = stream
        for name, (shape, address) in inputs.items():
            if not self._context.set_input_shape(name, shape) or not self._context.set_tensor_address(name, address):
                raise self._failure(f"refused input {name!r} of shape {shape}")
        outputs = dict(self._outputs())
        for name, tensor in outputs.items():
            self._context.set_tensor_address(name, tensor.address)
        size = self._context.update_device_memory_size_for_shapes()
        self._context.set_device_memory(self._scratch.address(size), size)
        if not self._context.execute_async_v3(stream):
            raise self._failure("failed")
        return outputs

    def _outputs(self) -> Iterator[tuple[str, DeviceTensor]]:
        for name in self._graph.signature.outputs:
            shape = tuple(self._context.get_tensor_shape(name))
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(np.float32).itemsize
            yield name, DeviceTensor(shape, self._buffers[name].address(size), self)

    def _failure(self, what: str) -> RuntimeError:
        reason = log(self._engine.module).reason()
        return RuntimeError(f"tensorrt: the engine of graph {self._graph.name!r} {what}: {reason}")

    def __del__(self) -> None:
        # CUDA frees memory in a current context only, and a thread ends, or a session is dropped, without one.
        if not hasattr(self, "_buffers"):
            return
        if self._gpu.forked:  # the parent's memory: touching it here would fail
            _LOST_IN_FORK.append(self.__dict__)
            return
        with self._gpu.current():
            self.__dict__.clear()


_LOST_IN_FORK: list[object] = []


class _DeviceView:
    """Shape, type and address of a C-contiguous array on the device."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], address: int) -> None:
        self.shape, self.dtype, self.address = shape, dtype, address


def _device_view(name: str, array: OnDevice) -> _DeviceView:
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        raise TypeError(f"{name} must be on the device (have __cuda_array_interface__), got {type(array).__name__}")
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    strides = interface.get("strides")
    if strides is not None and tuple(strides) != _c_strides(shape, dtype.itemsize):
        raise ValueError(f"{name} must be C-contiguous, got strides {strides} bytes; copy it on the device first")
    return _DeviceView(shape, dtype, interface["data"][0])


def _c_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape)))


def _signature(graph: Graph, engine: "trt.ICudaEngine") -> Signature:
    """What the engine reports, in the graph's order, as TensorRT promises none."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    for name in names:
        if engine.get_tensor_dtype(name).name != "FLOAT":
            raise InputError(
                "bundle-signature",
                f"graph {graph.name!r} has {name!r} of type {engine.get_tensor_dtype(name).name} in TensorRT; every "
                "tensor must be float32",
            )
    promised = [*graph.signature.inputs, *graph.signature.outputs]
    names.sort(key=lambda name: promised.index(name) if name in promised else len(promised))
    shapes = {name: _shape(engine.get_tensor_shape(name)) for name in names}
    inputs = [name for name in names if engine.get_tensor_mode(name).name == "INPUT"]
    return Signature(
        {name: shapes[name] for name in inputs}, {name: shape for name, shape in shapes.items() if name not in inputs}
    )


def _shape(sizes: "trt.Dims") -> Shape:
    """TensorRT calls a dynamic dimension -1."""
    return tuple(None if size == -1 else size for size in sizes)
