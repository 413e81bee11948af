#!/bin/sh
# Everything that a machine with an NVIDIA GPU is asked, with what is installed there:
#   benchmarks/gpu/run.sh OUT [VOLUME.npz]
# OUT gets JSON and Markdown of each part. VOLUME is a CT as an array file, a simulated one without it:
#   ct = lnsdk.read(folder); numpy.savez('VOLUME.npz', voxels=ct.voxels, affine=ct.affine)
# A part that cannot run is named in OUT/not_run.txt with its last words, and the others go on.
# DEVICE=cpu makes a dry run of it on a machine without a GPU: small sizes, the tests in numba's simulator.
set -eu
test $# -ge 1 || { echo "usage: benchmarks/gpu/run.sh OUT [VOLUME.npz]" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
volume=${2:-}
test -z "$volume" || volume=$(cd "$(dirname "$volume")" && pwd)/$(basename "$volume")
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
device=${DEVICE:-cuda}
: > "$out/not_run.txt"

part() {  # part NAME COMMAND...
    name=$1
    shift
    echo "== $name"
    if ! "$@" > "$out/$name.log" 2>&1; then
        echo "$name: $(grep . "$out/$name.log" | tail -n 1)" | tee -a "$out/not_run.txt"
    fi
}

if [ "$device" = cpu ]; then
    simulated=1
    networks="--device cpu --slices 4 --size 96 --repeats 1"
    bench="--device cpu --repeats 1 --backend torchscript --no-gate"
else
    simulated=0
    networks="--device cuda"
    bench="--device cuda --repeats 5"
fi
part tests env NUMBA_ENABLE_CUDASIM=$simulated "$python" -m pytest -q tests/ops/cuda tests/pipelines/gpu
grep -q passed "$out/tests.log" || echo "tests: all were skipped, see tests.log" | tee -a "$out/not_run.txt"
part kernels "$python" -m pytest -q benchmarks/ops/cuda --benchmark-json="$out/kernels.json"
grep -q passed "$out/kernels.log" || echo "kernels: all were skipped, see kernels.log" | tee -a "$out/not_run.txt"
# shellcheck disable=SC2086 # options are words
part networks "$python" -m benchmarks.gpu.networks -o "$out" $networks
# shellcheck disable=SC2086
part bench "$python" -m lnsdk.cli bench ${volume:+"$volume"} -o "$out" $bench
test -s "$out/not_run.txt" || echo "nothing was left out" | tee "$out/not_run.txt"
ls "$out"
