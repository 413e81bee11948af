"""One engine, timed in a process that does nothing else: ``python -m lnsdk.bench.child`` with a request as JSON."""

import json
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Read a request from standard input, write what was measured to standard output."""
    request = json.load(sys.stdin)
    from lnsdk.pipelines.detector import Detector

    engine = (request["bundle"], request["backend"], request["device"], request["precision"], request["threads"])
    detector = Detector(*engine, threshold=request["threshold"])
    load = time.time() - request["started"]
    source = _source(Path(request["ct"]))
    seconds, stages = [], []
    for _ in range(1 + request["repeats"]):
        started = time.perf_counter()
        result = detector(source)
        seconds.append(time.perf_counter() - started)
        stages.append(dict(result.timings))
    first, *warm = seconds
    measured = {
        "slices": result.volume.shape[0],
        "lesions": len(result.lesions),
        "load": load,
        "first": first,
        "warm": warm,
        "stages": stages[1 + warm.index(min(warm))],
        "peak_bytes": _peak_bytes(),
        "versions": dict(result.provenance.versions),
    }
    print(json.dumps(measured))


def _source(ct: Path) -> Any:
    """A path for `lnsdk.read`, or the volume of an array file."""
    if ct.suffix != ".npz":
        return ct
    import numpy as np

    from lnsdk.volume import Volume

    with np.load(ct, allow_pickle=False) as content:
        return Volume(content["voxels"], content["affine"])


def _peak_bytes() -> int:
    """Most memory that this process has held; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    main()
