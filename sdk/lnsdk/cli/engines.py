"""Options of every command that runs a network: engine, device, precision, threads."""

from argparse import ArgumentParser

from lnsdk.cli.console import positive

BACKENDS = ("onnx", "openvino", "torchscript", "tensorrt", "tensorrt-lean")
"""Names of `lnsdk.backends.BACKENDS`, which is not imported for ``--help``."""

SIMULATED = 12
"""That of `lnsdk.verification`, which is not imported for ``--help``."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
"""What a network may compute in."""


def add_engine_options(parser: ArgumentParser) -> None:
    """Add ``--backend``, ``--device``, ``--precision`` and ``--threads``."""
    parser.add_argument(
        "--backend",
        choices=["auto", *BACKENDS],
        default="auto",
        help="engine (default: auto, the fastest on this CPU that finds the same, or torchscript with --device cuda)",
    )
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda"], default="auto", help="where it runs (default: auto)"
    )
    parser.add_argument(
        "--precision",
        choices=["auto", *PRECISIONS],
        default="auto",
        help="what it computes in: bf16 with openvino on CPUs that have it, fp16 on GPUs, int8 with openvino, the last "
        "two with bundles that hold such graphs (default: auto: fp32, or what the engine auto is fastest in)",
    )
    parser.add_argument("--threads", type=positive, help="CPU threads (default: one per core)")
