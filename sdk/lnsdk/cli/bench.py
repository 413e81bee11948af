"""``lnsdk bench``: how fast every engine of this machine is, and whether it finds the same lesions."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lnsdk.cli.console import command_parser, natural, output_folder, positive, progress_bar, writing
from lnsdk.cli.engines import BACKENDS, PRECISIONS

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

    folder = output_folder(options.output)
    path = options.bundle or DEFAULT_BUNDLE
    bundle = read_bundle(path)
    engines, missing = _engines(bundle, options.backend or (), options.precision or (), options.device)
    with TemporaryDirectory() as scratch:
        cts = options.ct or [_simulated(Path(scratch))]
        results = _time(path, engines, cts, options.repeats, options.threads)
        report = None if options.no_gate else _verify(bundle, engines, options)
    text = f"# {bundle.name} on this machine\n\n{machine.describe()}\n\n{to_markdown(results)}"
    document = {
        "model": {"name": bundle.name, "sha256": bundle.sha256},
        "machine": machine.facts(),
        "timings": [asdict(result) for result in results],
        "gate": None if report is None else report.to_dict(),
        "missing": missing,
    }
    _write(folder, document, text)
    print(text)
    _show(report, missing)
    print(f"written to {folder}: {DOCUMENT}, {TABLE}")
    failed = any(isinstance(result, Failure) for result in results)
    return 1 if failed or (report is not None and not report.passed) else 0


def _engines(
    bundle: Bundle, backends: Sequence[str], precisions: Sequence[str], device: str
) -> tuple[list[EngineChoice], dict[str, str]]:
    """Those that can be used, and why the others cannot."""
    from lnsdk.verification import choices

    found = choices(bundle, backends, precisions, device)
    usable = [choice for choice in found if choice.missing is None]
    return usable, {str(choice): choice.missing for choice in found if choice.missing is not None}


def _time(
    bundle: Path, engines: Sequence[EngineChoice], cts: Sequence[Path], repeats: int, threads: int | None
) -> list[Timing | Failure]:
    """One engine after the other, so that none disturbs another."""
    from lnsdk.bench.measure import measure

    results: list[Timing | Failure] = []
    with progress_bar("timing") as progress:
        for ct in cts:
            for engine in engines:
                progress(len(results), len(cts) * len(engines))
                results.append(measure(bundle, engine, ct, repeats, threads))
    return results


def _verify(bundle: Bundle, engines: Sequence[EngineChoice], options: Any) -> Report:
    from itertools import chain

    from lnsdk.verification import recorded_case, simulated_cases, verify

    cts = (recorded_case(path) for path in options.ct if path.suffix != ".npz")
    return verify(bundle, engines, chain(cts, simulated_cases(options.simulated)), options.threads)


def _simulated(folder: Path) -> Path:
    """A phantom CT of an ordinary size in an array file."""
    from lnsdk.bench.phantom import write_phantom

    return write_phantom(folder / "simulated.npz")


def _write(folder: Path, document: Any, text: str) -> None:
    with writing(folder):
        (folder / DOCUMENT).write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        (folder / TABLE).write_text(text, encoding="utf-8")


def _show(report: Report | None, missing: dict[str, str]) -> None:
    from rich.console import Console

    from lnsdk.cli.verification_report import show_report

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
