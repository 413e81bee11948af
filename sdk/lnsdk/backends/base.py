"""What every engine has in common: a graph's signature, the session that checks it, the backend that opens it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lnsdk.errors import BackendUnavailable, InputError

Shape: TypeAlias = tuple[int | None, ...]
"""A tensor's dimensions; None is one that may change from call to call."""

Tensors: TypeAlias = Mapping[str, NDArray[np.float32]]
"""Flat, named float32 tensors, as every graph takes and gives them."""


Profile: TypeAlias = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Smallest, usual and largest shape of every input of a graph, for engines that are built for a range of shapes."""


FILES = {"fp32": ".onnx", "bf16": ".onnx", "fp16": ".fp16.onnx", "int8": ".int8.onnx"}
"""Which of a graph's files engines that read ONNX load for a precision: bfloat16 needs no other weights."""


class Array(Protocol):
    """Whatever has a shape and a dtype."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes along the axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""


@dataclass(frozen=True)
class Signature:
    """Names and shapes of what a graph takes and gives, in the graph's own order; everything is float32."""

    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]


@dataclass(frozen=True)
class Graph:
    """One network graph of a bundle.

    Parameters
    ----------
    name : str
        Name of the graph in its bundle, such as ``"image"``.
    signature : Signature
        What the bundle promises of it.
    read : callable
        ``read(suffix) -> bytes``: the verified content of the graph's file in one format: one of `FILES`, or ``".ts"``.
    profile : Profile, optional
        Shapes that the graph must take; only TensorRT asks for them.
    """

    name: str
    signature: Signature
    read: Callable[[str], bytes]
    profile: Profile | None = None


class Session(ABC):
    """A graph loaded into an engine. `run` may be called from several threads at once.

    An engine writes only `_run`; names, shapes and dtypes are checked here.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Run the graph.

        Parameters
        ----------
        inputs : mapping of str to float32 ndarray
            One array per input of the graph's signature, all with the same first dimension (the batch).

        Returns
        -------
        dict of str to float32 ndarray
            One array per output of the signature. The arrays belong to the caller.

        Raises
        ------
        ValueError
            If names, shapes or batch sizes are not those of the signature.
        TypeError
            If an array is not float32.
        RuntimeError
            If an output does not have the shape that the signature promises, or holds NaN or infinity.
        """
        self._check_inputs(inputs)
        outputs = self._run(inputs)
        for name, shape in self.graph.signature.outputs.items():
            if not _fits(outputs[name].shape, shape):
                raise RuntimeError(
                    f"graph {self.graph.name!r} gave {name!r} with shape {outputs[name].shape} where its bundle "
                    f"promises {_text(shape)}; export the bundle again"
                )
            if not np.isfinite(outputs[name]).all():
                raise RuntimeError(
                    f"graph {self.graph.name!r} gave NaN or infinity in {name!r}, so its answer cannot be trusted; "
                    "export the bundle again or use another backend"
                )
        return outputs

    def check_precision(self) -> None:  # noqa: B027
        """Refuse an engine whose first run was computed in another precision than was asked for; call it once, then.

        Engines that refuse it while they load have nothing to do here.

        Raises
        ------
        PrecisionError
            Naming the precision that was found.
        """

    @abstractmethod
    def _run(self, inputs: Tensors) -> dict[str, NDArray[np.float32]]:
        """Run checked inputs through the engine."""

    def _check_inputs(self, inputs: Mapping[str, Array]) -> None:
        expected = self.graph.signature.inputs
        if inputs.keys() != expected.keys():
            raise ValueError(
                f"inputs of graph {self.graph.name!r} must be named {', '.join(expected)}; got {', '.join(inputs)}"
            )
        for name, shape in expected.items():
            array = inputs[name]
            if array.dtype != np.float32:
                raise TypeError(f"input {name!r} of graph {self.graph.name!r} must be float32, got {array.dtype}")
            if not _fits(array.shape, shape):
                raise ValueError(
                    f"input {name!r} of graph {self.graph.name!r} must have shape {_text(shape)}, got {array.shape}"
                )
        if len({array.shape[0] for array in inputs.values()}) > 1:
            sizes = ", ".join(f"{name} {array.shape[0]}" for name, array in inputs.items())
            raise ValueError(f"inputs of graph {self.graph.name!r} must have one batch size, got {sizes}")


class Backend(Protocol):
    """An engine that runs graphs."""

    name: str
    """Name by which users choose it."""

    def why_unavailable(self) -> str | None:
        """Return None when the engine can be used here, else why not and what to install."""

    def version(self) -> str:
        """Return the engine's version; raises BackendUnavailable when it is not installed."""

    def device(self, device: str) -> str:
        """Return the device, such as ``"cpu"``, that a user's ``"auto"``, ``"cpu"`` or ``"cuda"`` means here."""

    def precisions(self, device: str) -> tuple[str, ...]:
        """Return what it computes in on a device that `device` returned, ``"fp32"`` first."""

    def open(self, graph: Graph, device: str, precision: str, threads: int | None) -> Session:
        """Load a graph.

        Parameters
        ----------
        graph : Graph
            What to load.
        device : str
            A device that `device` returned.
        precision : str
            One of `precisions`.
        threads : int or None
            Number of CPU threads for the engine; None is one per core this process may use.

        Raises
        ------
        BackendUnavailable
            If the engine is not installed, cannot use the device or the precision, or would silently compute in
            another one.
        InputError
            If the graph cannot be loaded, or is not what its signature says.
        """


class PrecisionError(BackendUnavailable):
    """An engine would compute, or did compute, in another precision than was asked for."""


def check_offered(backend: Backend, device: str, precision: str) -> None:
    """Refuse a precision in which a backend does not compute on a device.

    Raises
    ------
    BackendUnavailable
        Naming those in which it does.
    """
    known = backend.precisions(device)
    if precision not in known:
        raise BackendUnavailable(
            f"{backend.name}: computes in {' or '.join(known)} on {device} here, got precision {precision!r}"
        )


def check_signature(graph: Graph, found: Signature) -> None:
    """Refuse a graph whose engine reports other tensors than its bundle promises.

    Parameters
    ----------
    graph : Graph
        The graph with its promised signature.
    found : Signature
        What the engine reports; an engine that cannot tell a dimension reports None.

    Raises
    ------
    InputError
        ``bundle-signature``, naming the tensor.
    """
    for kind, promised, reported in (
        ("input", graph.signature.inputs, found.inputs),
        ("output", graph.signature.outputs, found.outputs),
    ):
        if list(promised) != list(reported):
            raise InputError(
                "bundle-signature",
                f"graph {graph.name!r} has {kind}s {', '.join(reported)} where its bundle promises "
                f"{', '.join(promised)}; export the bundle again",
            )
        for name, shape in promised.items():
            if not _compatible(shape, reported[name]):
                raise InputError(
                    "bundle-signature",
                    f"graph {graph.name!r} has {kind} {name!r} of shape {_text(reported[name])} where its bundle "
                    f"promises {_text(shape)}; export the bundle again",
                )


def _fits(shape: tuple[int, ...], expected: Shape) -> bool:
    return len(shape) == len(expected) and all(b is None or a == b for a, b in zip(shape, expected, strict=True))


def _compatible(promised: Shape, reported: Shape) -> bool:
    """Whether an engine's static view of a tensor allows what is promised: a baked-in size must be the promised one."""
    return len(promised) == len(reported) and all(b is None or a == b for a, b in zip(promised, reported, strict=True))


def _text(shape: Shape) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
