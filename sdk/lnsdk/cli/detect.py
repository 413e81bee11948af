"""``lnsdk detect``: a CT in, JSON, CSV and a picture out."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from lnsdk.cli.console import (
    command_parser,
    names,
    output_folder,
    plain_table,
    progress_bar,
    score,
    timing_line,
    writing,
)
from lnsdk.cli.engines import add_engine_options
from lnsdk.errors import InputError
from lnsdk.results import Detections

FILES = ("detections.json", "detections.csv", "detections.png")
"""What the command writes."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the files were written."""
    parser = _parser()
    options = parser.parse_args(arguments)
    from lnsdk.pipelines.detector import Detector  # after the options, so that --help is instant

    try:
        detector = Detector(
            options.bundle,
            backend=options.backend,
            device=options.device,
            precision=options.precision,
            threads=options.threads,
            crop=options.crop,
            experts=options.experts,
            threshold=options.threshold,
            reduce_false_positives=not options.no_fpr,
            trusted_keys=options.trusted_key,
        )
    except InputError:
        raise
    except ValueError as error:
        parser.error(str(error))
    folder = output_folder(options.output)
    with progress_bar("detecting") as progress:
        detections = detector(_source(options), series=options.series, progress=progress)
    write(detections, folder)
    show(detections, folder)
    return 0


def write(detections: Detections, folder: Path) -> None:
    """Write a result's files into a folder; raises InputError ``output-folder`` where that fails."""
    document, table, picture = (folder / name for name in FILES)
    with writing(folder):
        detections.to_json(document)
        detections.to_csv(table)
        detections.to_png(picture)


def show(detections: Detections, folder: Path) -> None:
    """Print a result as a table, with warnings and times."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    threshold = detections.provenance.threshold
    table = plain_table(
        f"{len(detections.lesions)} found, score {threshold:.2f} or more",
        [
            ("#", "right"),
            ("score", "right"),
            ("mm", "right"),
            ("LPS x, y, z (mm)", "left"),
            (f"slice of {detections.volume.shape[0]}", "right"),
            ("expert", "left"),
        ],
    )
    for number, lesion in enumerate(detections.lesions, start=1):
        expert = max(lesion.expert_scores, key=lambda name: lesion.expert_scores[name])
        table.add_row(
            str(number),
            f"{lesion.score:.3f}",
            f"{lesion.diameter_mm:.1f}",
            ", ".join(f"{value:.1f}" for value in lesion.center_mm),
            str(lesion.key_slice + 1),
            expert,
        )
    console.print(table)
    for warning in detections.warnings:
        console.print(f"warning: {warning}", markup=False)
    console.print(timing_line(detections.timings), markup=False)
    console.print(f"written to {folder}: {', '.join(FILES)}", markup=False)


def _source(options: Namespace) -> Path | list[str | Path]:
    paths: list[Path] = options.path
    return paths[0] if len(paths) == 1 else [*paths]


def _parser() -> ArgumentParser:
    parser = command_parser(
        "detect",
        "Find lesions in a CT and write detections.json, detections.csv and detections.png.",
        [
            "lnsdk detect ct_folder -o out",
            "lnsdk detect ct.nii.gz -o out --threshold 0.97 --experts lung,universal",
            "lnsdk detect study.zip -o out --series 1.2.840.113619.2.55",
        ],
    )
    parser.add_argument(
        "path",
        type=Path,
        nargs="+",
        help="folder, zip or files of a DICOM series, or one NIfTI, MetaImage or NRRD file",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write to; made when missing")
    parser.add_argument("--series", help="which volume to take when the path holds several: what the error lists")
    parser.add_argument(
        "--threshold", type=score, help="keep lesions with at least this score; 0 keeps all (default: the model's)"
    )
    add_engine_options(parser)
    parser.add_argument(
        "--experts", type=names, metavar="NAME[,NAME...]", help="experts whose boxes count (default: all)"
    )
    parser.add_argument(
        "--no-fpr", action="store_true", help="leave the model's false-positive reduction out, if it has one"
    )
    parser.add_argument(
        "--trusted-key",
        type=Path,
        action="append",
        metavar="PEM",
        help="accept only a model that this public key signed; may be given several times",
    )
    parser.add_argument("--bundle", type=Path, help="model bundle, folder or zip (default: the one in the package)")
    parser.add_argument(
        "--crop", choices=["body", "none"], default="body", help="look at the body or at every pixel (default: body)"
    )
    return parser
