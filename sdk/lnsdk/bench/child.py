"""One engine, timed in a process that does nothing else: ``python -m lnsdk.bench.child`` with a request as JSON."""

import json
import sys
import time
from pathlib import Path

from lnsdk.bench.arrays import read_array
from lnsdk.volume import Volume


def main() -> None:
    """Read a request from standard input, write what was measured to standard output."""
    request = json.load(sys.stdin)
    from lnsdk.pipelines.detector import Detector

    engine = (request["bundle"], request["backend"], request["device"], request["precision"], request["threads"])
    detector = Detector(*engine)
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


def _source(ct: Path) -> Path | Volume:
    """A path for `lnsdk.read`, or the volume of an array file."""
    return read_array(ct) if ct.suffix == ".npz" else ct


def _peak_bytes() -> int:
    """Most memory that this process has held; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    main()
