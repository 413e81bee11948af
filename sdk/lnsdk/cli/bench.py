"""``lnsdk bench``: how fast every engine of this machine is, and whether it finds the same lesions."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lnsdk.cli.console import command_parser, natural, output_folder, positive, progress_bar, writing
from lnsdk.cli.engines import BACKENDS, PRECISIONS
from lnsdk.cli.verification_report import gate_table, show_report
from lnsdk.errors import BackendUnavailable

if TYPE_CHECKING:
    from lnsdk.bench.measure import Failure, Timing
    from lnsdk.bundle import Bundle
    from lnsdk.verification import EngineChoice, Report

DOCUMENT, TABLE = "bench.json", "bench.md"
"""What the command writes."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when every engine gave a time and none failed the gate, else 1."""
    options = _parser().parse_args(arguments)
    from lnsdk.bench import machine
    from lnsdk.bench.measure import Failure
    from lnsdk.bench.report import to_markdown
    from lnsdk.bundle import DEFAULT_BUNDLE, read_bundle
    from lnsdk.verification import choices

    folder = output_folder(options.output)
    path = options.bundle or DEFAULT_BUNDLE
    bundle = read_bundle(path)
    found = choices(bundle, options.backend or (), options.precision or (), options.device)
    engines = [choice for choice in found if choice.missing is None]
    missing = {str(choice): choice.missing for choice in found if choice.missing is not None}
    if not engines:
        raise BackendUnavailable("; ".join(f"{engine}: {reason}" for engine, reason in missing.items()))
    facts = machine.facts()
    with TemporaryDirectory() as scratch:
        cts = _named(options.ct) or {"simulated CT": _simulated(Path(scratch))}
        results = _time(path, engines, cts, options.repeats, options.threads)
    text = f"# {bundle.name} on this machine\n\n{machine.describe(facts)}\n\n{to_markdown(results)}"
    document = {
        "model": {"name": bundle.name, "sha256": bundle.sha256},
        "machine": facts,
        "timings": [asdict(result) for result in results],
        "missing": missing,
        "gate": None,
    }
    _write(folder, document, text)
    print(text)
    report = None if options.no_gate else _verify(bundle, engines, options)
    _show(report, missing)
    if report is not None:
        _write(folder, document | {"gate": report.to_dict()}, f"{text}\n{gate_table(report)}")
    print(f"written to {folder}: {DOCUMENT}, {TABLE}")
    failed = any(isinstance(result, Failure) for result in results)
    return 1 if failed or (report is not None and not report.passed) else 0


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Number CTs, whose files may be named after patients."""
    return {f"CT {number}": path for number, path in enumerate(paths, start=1)}


def _time(
    bundle: Path, engines: Sequence[EngineChoice], cts: Mapping[str, Path], repeats: int, threads: int | None
) -> list[Timing | Failure]:
    """One engine after the other, so that none disturbs another; the first run of all is not counted."""
    from lnsdk.bench.measure import measure

    results: list[Timing | Failure] = []
    with progress_bar("timing") as progress:
        for name, ct in cts.items():
            measure(bundle, engines[0], name, ct, 1, threads)  # afterwards the files are in the system's memory
            for engine in engines:
                progress(len(results), len(cts) * len(engines))
                results.append(measure(bundle, engine, name, ct, repeats, threads))
    return results


def _verify(bundle: Bundle, engines: Sequence[EngineChoice], options: Any) -> Report | None:
    """Let the gate look at the engines, where there is one besides the reference."""
    from lnsdk.bench.arrays import read_array
    from lnsdk.verification import REFERENCE, VerificationCase, recorded_cases, simulated_cases, verify

    if list(engines) == [REFERENCE]:
        return None
    arrays = [path for path in options.ct if path.suffix == ".npz"]
    cts = recorded_cases(path for path in options.ct if path not in arrays)
    more = (VerificationCase(f"array {number}", read_array(path)) for number, path in enumerate(arrays, start=1))
    return verify(bundle, engines, chain(cts, more, simulated_cases(options.simulated)), options.threads)


def _simulated(folder: Path) -> Path:
    """A phantom CT of an ordinary size in an array file."""
    from lnsdk.bench.arrays import write_phantom

    return write_phantom(folder / "simulated.npz")


def _write(folder: Path, document: Any, text: str) -> None:
    with writing(folder):
        (folder / DOCUMENT).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (folder / TABLE).write_text(text, encoding="utf-8")


def _show(report: Report | None, missing: Mapping[str, str]) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False)
    if report is not None:
        show_report(report, console)
    for engine, reason in missing.items():
        console.print(f"{engine} missing: {reason}")


def _parser() -> ArgumentParser:
    parser = command_parser(
        "bench",
        "Time every engine and precision of this machine on CTs, each in a process of its own: seconds until the\n"
        "detector is ready, of its first call and of a warm one, by stage, and the memory it held. Then compare its\n"
        "lesions with those of the float32 reference (see lnsdk verify). Exit code 1 when an engine failed.",
        [
            "lnsdk bench -o bench",
            "lnsdk bench ct_folder other.nii.gz -o bench --repeats 5",
            "lnsdk bench volume.npz -o bench --backend onnx openvino --no-gate",
        ],
    )
    parser.add_argument(
        "ct",
        type=Path,
        nargs="*",
        help="CTs: what lnsdk detect takes, or .npz files with voxels (z, y, x) in HU and affine (default: a simulated "
        "CT of 100 slices)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the report")
    parser.add_argument("--bundle", type=Path, help="model bundle, folder or zip (default: the one in the package)")
    parser.add_argument("--backend", nargs="+", choices=BACKENDS, help="engines (default: all)")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, help="precisions (default: all)")
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="where they run (default: wherever they can)"
    )
    parser.add_argument("--threads", type=positive, help="CPU threads (default: one per core)")
    parser.add_argument("--repeats", type=positive, default=3, help="warm calls; the fastest counts (default: 3)")
    parser.add_argument("--no-gate", action="store_true", help="time only")
    parser.add_argument(
        "--simulated",
        type=natural,
        default=4,
        metavar="N",
        help="simulated CTs that lesions are compared on besides (default: 4)",
    )
    return parser
