"""From ONNX to an engine: a strongly typed build for a range of shapes, and the precision that came of it."""

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from lnsdk.backends.base import Graph, Profile
from lnsdk.backends.tensorrt.log import log
from lnsdk.backends.tensorrt.progress import build_progress
from lnsdk.errors import BackendUnavailable, InputError

if TYPE_CHECKING:
    import tensorrt as trt

FLOAT_TYPES = {
    "fp32": r"fp32|float",
    "fp16": r"fp16|half",
    "bf16": r"bf16|bfloat16",
    "fp8": r"fp8",
    "fp4": r"fp4",
}
"""How the engine inspector calls the types of floating-point tensors. Booleans and integers are no precision."""


class Built(NamedTuple):
    """An engine and the timings of its kernels, with which another build is faster."""

    engine: bytes
    timings: bytes


def build(
    graph: Graph, profile: Profile, precision: str, content: bytes, timings: bytes, version_compatible: bool
) -> Built:
    """Build an engine; takes minutes. The GPU's context must be current.

    Parameters
    ----------
    graph : Graph
        For its name.
    profile : Profile
        Shapes that the engine must take, and those that it is made fastest for.
    precision : str
        ``"fp32"`` or ``"fp16"``.
    content : bytes
        The ONNX model, with the precision in it.
    timings : bytes
        Of an earlier build on the same GPU and with the same TensorRT, or empty.
    version_compatible : bool
        Build an engine that later versions of TensorRT run too, with the lean runtime in it.

    Returns
    -------
    Built

    Raises
    ------
    InputError
        ``bundle-graph`` if TensorRT cannot read the model.
    BackendUnavailable
        If the build fails, or an engine of another precision comes of it.
    """
    import tensorrt as trt

    messages = log(trt)
    messages.clear()
    builder = trt.Builder(messages.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, messages.logger)
    if not parser.parse(content):
        reasons = "; ".join(" ".join(parser.get_error(index).desc().split()) for index in range(parser.num_errors))
        raise InputError("bundle-graph", f"TensorRT cannot read graph {graph.name!r}: {reasons or messages.reason()}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # fp32 that rounds to 10 bits would find other lesions than the CPU
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector tells no types
    if version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    config.add_optimization_profile(_optimization_profile(builder, profile))
    cache = config.create_timing_cache(timings)
    config.set_timing_cache(cache, ignore_mismatch=False)
    with build_progress(f"building the TensorRT engine of graph {graph.name!r}, once for this GPU") as monitor:
        config.progress_monitor = monitor
        engine = builder.build_engine_with_config(network, config)
    if engine is None:
        raise BackendUnavailable(
            f"tensorrt: cannot build an engine of graph {graph.name!r}: {messages.reason()}; use another backend"
        )
    check_precision(graph, precision, _layers(engine, profile))
    return Built(bytes(engine.serialize()), bytes(cache.serialize()))


def _optimization_profile(builder: "trt.Builder", profile: Profile) -> "trt.IOptimizationProfile":
    made = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in profile.items():
        made.set_shape(name, smallest, usual, largest)
    return made


def _layers(engine: "trt.ICudaEngine", profile: Profile) -> list[Any]:
    """What the inspector tells of the engine's layers at its usual shapes; without shapes it tells no types."""
    import tensorrt as trt

    context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    inspector = engine.create_engine_inspector()
    if context is not None:
        for name, (_, usual, _) in profile.items():
            context.set_input_shape(name, usual)
        inspector.execution_context = context
    layers: list[Any] = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))["Layers"]
    return layers


def check_precision(graph: Graph, precision: str, layers: list[Any]) -> None:
    """Refuse an engine that computes in another precision than was asked for.

    Parameters
    ----------
    graph : Graph
        For its name.
    precision : str
        ``"fp32"``: no layer has a smaller floating-point type. ``"fp16"``: some layer computes in fp16, and none in a
        smaller or another 16-bit type; inputs, outputs and what the model keeps in fp32 stay so.
    layers : list
        ``"Layers"`` of the engine inspector's JSON.

    Raises
    ------
    BackendUnavailable
        If it is another, or cannot be told.
    """
    texts = [text.lower() for layer in layers if isinstance(layer, dict) for text in _types(layer)]
    found = {name for name, type_ in FLOAT_TYPES.items() if any(re.search(rf"\b({type_})\b", text) for text in texts)}
    allowed = {"fp32"} if precision == "fp32" else {"fp32", "fp16"}
    if precision not in found or not found <= allowed:
        told = ", ".join(sorted(found)) or "unknown types"
        raise BackendUnavailable(
            f"tensorrt: asked for {precision}, but the engine of graph {graph.name!r} computes in {told}; "
            "export the bundle again or use another backend"
        )


def _types(layer: dict[str, Any]) -> Iterator[str]:
    """Types of a layer's tensors and weights, such as ``"Row major linear FP32"`` or ``"Half"``."""
    for tensor in (*layer.get("Inputs", ()), *layer.get("Outputs", ())):
        if isinstance(tensor, dict):
            yield str(tensor.get("Format/Datatype", ""))
    for constants in ("Weights", "Bias"):
        if isinstance(layer.get(constants), dict):
            yield str(layer[constants].get("Type", ""))
