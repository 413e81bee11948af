"""``lnsdk train lens-data``: make the cases that LENS trains on, of simulated patients or of published data sets."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from lnsdk.cli.console import (
    DATA_VARIABLE,
    PHANTOMS_ALONE,
    command_parser,
    natural,
    output_folder,
    positive,
    real_cts,
    trainers,
)
from lnsdk.errors import InputError

RECORDED = ("deeplesion", "luna16", "lits", "nih_ln")
"""Options that name published data sets."""

PLANNED = ("patients", "single", "validation", "test", "lesions", "seed", "reach_mm")
"""Options that plan simulated patients, as `PatientSetPlan` names them."""


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns 0 when the cases are there."""
    options = _parser().parse_args(arguments)
    recorded = _given(options, RECORDED)
    _refuse_others(options, recorded)
    return _record(options) if recorded else _simulate(options)


def _given(options: Namespace, names: Sequence[str]) -> list[str]:
    """Those of some options that were given, as they are written."""
    values = {name: getattr(options, name) for name in names}
    return [f"--{name.replace('_', '-')}" for name, value in values.items() if value is not None and value is not False]


def _refuse_others(options: Namespace, recorded: Sequence[str]) -> None:
    """Refuse options that would have no effect."""
    if options.deeplesion_boxes is not None and options.deeplesion is None:
        raise InputError("settings", "the 3D boxes belong to DeepLesion: name its folder too (--deeplesion DIR)")
    if options.allow_missing and not recorded:
        raise InputError("settings", "--allow-missing is for published data sets: name one, such as --luna16 DIR")
    planned = _given(options, ("data", "phantoms_only", *PLANNED))
    if recorded and planned:
        raise InputError(
            "settings", f"{planned[0]} is for simulated patients, and {recorded[0]} takes recorded ones: leave one out"
        )


def _simulate(options: Namespace) -> int:
    """Make simulated patients and print what the set holds."""
    patients, backgrounds = trainers("common.patients"), trainers("common.backgrounds")
    root = real_cts(options.data, options.phantoms_only, PHANTOMS_ALONE)
    counts = {name: getattr(options, name) for name in PLANNED if getattr(options, name) is not None}
    try:
        plan = patients.PatientSetPlan(**counts, backgrounds=backgrounds.load_backgrounds(root) if root else ())
    except ValueError as error:
        raise InputError("settings", str(error)) from error
    folder = output_folder(options.output)
    print(patients.generate(plan, folder).markdown())
    print(f"written to {folder}")
    return 0


def _record(options: Namespace) -> int:
    """Bring published data sets onto the grid and print what was left out."""
    read_published = trainers("datasets.published").read_published
    prepare_set = trainers("datasets.prepare").prepare_set
    roots = {name: getattr(options, name) for name in RECORDED if getattr(options, name)}
    recordings, left_out = read_published(roots, options.deeplesion_boxes, options.allow_missing)
    folder = output_folder(options.output)
    left_out += prepare_set(recordings, folder)
    print(f"{len(recordings)} volumes written to {folder}")
    for sentence in left_out:
        print(f"left out: {sentence}")
    return 0


def _parser() -> ArgumentParser:
    parser = command_parser(
        "train lens-data",
        "Make the cases that LENS trains on, on the network's grid. Without a data set they are simulated:\n"
        "patients with several studies and series whose lesions come back, labelled as radiologists label\n"
        "them, and single-type sets that label all of their type. Cases that are up to date are kept.",
        [
            "lnsdk train lens-data --phantoms-only --patients 20 -o cases",
            "lnsdk train lens-data --data data -o cases",
            "lnsdk train lens-data --deeplesion DeepLesion --luna16 LUNA16 --lits LiTS --nih-ln NIH-LN -o cases",
        ],
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", required=True, help="folder of the cases")
    simulated = parser.add_argument_group("simulated patients")
    simulated.add_argument(
        "--data", type=Path, metavar="DIR", help=f"folder with the real CTs (default: {DATA_VARIABLE})"
    )
    simulated.add_argument("--phantoms-only", action="store_true", help="without real CTs")
    simulated.add_argument("--patients", type=natural, metavar="N", help="phantom patients of the universal set (40)")
    simulated.add_argument("--single", type=natural, metavar="N", help="phantom patients of each single-type set (10)")
    simulated.add_argument("--validation", type=natural, metavar="N", help="phantom patients for validation (8)")
    simulated.add_argument("--test", type=natural, metavar="N", help="phantom patients for testing (10)")
    simulated.add_argument("--lesions", type=positive, metavar="N", help="lesions of a patient at most (7)")
    simulated.add_argument("--seed", type=natural, metavar="S", help="of everything, 0 to 99 (0)")
    simulated.add_argument(
        "--reach-mm", type=float, metavar="MM", help="keep this much around labelled key slices (default: whole scans)"
    )
    recorded = parser.add_argument_group("published data sets")
    recorded.add_argument("--deeplesion", type=Path, metavar="DIR", help="DeepLesion: Images_png and DL_info.csv")
    recorded.add_argument(
        "--deeplesion-boxes", type=Path, metavar="JSON", help="3D boxes of its fully labelled sub-volumes, for testing"
    )
    recorded.add_argument("--luna16", type=Path, metavar="DIR", help="LUNA16: subset0 to subset9 and annotations.csv")
    recorded.add_argument("--lits", type=Path, metavar="DIR", help="LiTS: volume-N.nii and segmentation-N.nii")
    recorded.add_argument("--nih-ln", type=Path, metavar="DIR", help="NIH-LN: DICOM series and MED_ABD_LYMPH_MASKS")
    recorded.add_argument("--allow-missing", action="store_true", help="accept data sets of which a part is there")
    return parser
