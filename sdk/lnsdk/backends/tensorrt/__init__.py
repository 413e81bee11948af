"""TensorRT on an NVIDIA GPU: engines built once per model, GPU and version, and kept.

What is called is compared with NVIDIA's bindings, and the logic is tested against stand-ins. An engine is built and run
by the tests marked ``tensorrt``, only where NVIDIA's library and a GPU are.
"""

import hashlib
import json
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

from lnsdk._version import __version__
from lnsdk.backends.base import FILES, Graph, Profile, Session, check_offered
from lnsdk.backends.tensorrt.builder import build
from lnsdk.backends.tensorrt.cache import cache_folder, load, store
from lnsdk.backends.tensorrt.gpu import INSTALL, Gpu, first_gpu
from lnsdk.backends.tensorrt.log import Library
from lnsdk.backends.tensorrt.session import DeviceTensor, Engine, TensorRTSession
from lnsdk.errors import BackendUnavailable, InputError

__all__ = ["DeviceTensor", "TensorRTBackend", "TensorRTSession"]

OLDEST = (10, 12)
"""Oldest TensorRT that works."""


class TensorRTBackend:
    """Builds engines from the ``.onnx`` files of a bundle, keeps them in a cache folder, and runs them.

    Parameters
    ----------
    lean : bool
        Run version-compatible engines with the lean runtime, which is TensorRT without its builder. An engine that is
        not in the cache folder is built with the whole of TensorRT, where that is installed too.
    """

    def __init__(self, lean: bool = False) -> None:
        self.name = "tensorrt-lean" if lean else "tensorrt"
        self._lean = lean
        self._module = "tensorrt_lean" if lean else "tensorrt"
        self._install = INSTALL.replace("tensorrt", self.name)

    def why_unavailable(self) -> str | None:
        """Return None when TensorRT, pycuda and a GPU are here, else what to do."""
        for module in (self._module, "pycuda"):
            if find_spec(module) is None:
                return (
                    f"no module named {module!r}; install it with `{self._install}` on a machine with an NVIDIA driver"
                )
        try:
            self._library()
            first_gpu()
        except BackendUnavailable as error:
            return str(error).removeprefix("tensorrt: ")
        return None

    def version(self) -> str:
        """Return TensorRT's version."""
        return self._library().__version__

    def device(self, device: str) -> str:
        """Return ``"cuda"`` for ``"auto"`` and ``"cuda"``; there is no other device."""
        if device not in ("auto", "cuda"):
            raise BackendUnavailable(
                f"{self.name}: runs on NVIDIA GPUs only, got device {device!r}; use backend='onnx'"
            )
        return "cuda"

    def precisions(self, device: str) -> tuple[str, ...]:
        """Return ``"fp32"`` and ``"fp16"``."""
        return ("fp32", "fp16")

    def open(self, graph: Graph, device: str, precision: str, threads: int | None) -> Session:
        """Load a graph, which builds its engine (minutes) unless the cache folder holds it.

        See `lnsdk.backends.base.Backend.open`. `precision` is ``"fp32"`` or ``"fp16"``, for which the bundle must hold
        a model with fp16 in it; the graph needs a `profile`; `threads` plays no part.
        """
        check_offered(self, self.device(device), precision)
        if graph.profile is None:
            raise ValueError(f"{self.name}: graph {graph.name!r} needs a profile, the range of its inputs' shapes")
        library, place = self._library(), first_gpu()
        content = graph.read(FILES[precision])
        description = self._description(graph, graph.profile, precision, content, place)
        with place.current():
            engine = self._load_or_build(graph, graph.profile, precision, content, description, library)
            return TensorRTSession(graph, graph.profile, place, engine)

    def _load_or_build(
        self,
        graph: Graph,
        profile: Profile,
        precision: str,
        content: bytes,
        description: dict[str, Any],
        library: Library,
    ) -> Engine:
        folder = cache_folder()
        path = folder / f"{graph.name}-{_key(description)}.engine"
        kept = load(path, description)
        if kept is not None:
            try:
                return Engine(graph, library, kept)
            except InputError:
                pass  # TensorRT refuses what it built itself: a driver or a GPU partition changed
        if self._lean and find_spec("tensorrt") is None:
            raise BackendUnavailable(
                f"{self.name}: {folder} has no engine of graph {graph.name!r} for this model, version, GPU and "
                f"precision; run it once where TensorRT is installed too (`{INSTALL}`)"
            )
        import tensorrt

        machine = {key: description[key] for key in ("gpu", "compute_capability")} | {"tensorrt": tensorrt.__version__}
        timings = folder / f"{_key(machine)}.timings"
        built = build(graph, profile, precision, content, load(timings, machine) or b"", self._lean)
        engine = Engine(graph, library, built.engine)
        store(path, built.engine, description | {"tensorrt": tensorrt.__version__})
        store(timings, built.timings, machine)
        return engine

    def _description(
        self, graph: Graph, profile: Profile, precision: str, content: bytes, place: Gpu
    ) -> dict[str, Any]:
        """All that an engine depends on, as its sidecar holds it."""
        return {
            "graph": graph.name,
            "model_sha256": hashlib.sha256(content).hexdigest(),
            "tensorrt": self.version(),
            "version_compatible": self._lean,
            "gpu": place.name,
            "compute_capability": place.compute_capability,
            "precision": precision,
            "profile": {name: [list(shape) for shape in shapes] for name, shapes in profile.items()},
            "lnsdk": __version__,
        }

    def _library(self) -> Library:
        try:
            library = import_module(self._module)
        except (ImportError, OSError) as error:  # OSError: one of its shared libraries is missing
            raise BackendUnavailable(f"{self.name}: {error}; install it with `{self._install}`") from error
        if tuple(int(part) for part in library.__version__.split(".")[:2]) < OLDEST:
            raise BackendUnavailable(
                f"{self.name}: TensorRT {library.__version__} is older than {'.'.join(map(str, OLDEST))}; update it "
                f"with `{self._install} --upgrade`"
            )
        return cast(Library, library)


def _key(description: dict[str, Any]) -> str:
    """Name of a cached file: versions of lnsdk replace each other, those of TensorRT lie side by side."""
    parts = {key: value for key, value in description.items() if key != "lnsdk"}
    if parts.get("version_compatible"):
        parts["tensorrt"] = str(parts["tensorrt"]).partition(".")[0]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
