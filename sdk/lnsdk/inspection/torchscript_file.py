"""Looks through a TorchScript archive, before torch does, for code that is more than arithmetic on tensors.

TorchScript is a language: its programs can read and write files, some of them while they are loaded. What the exporter
writes is a straight line of calls of tensor functions, and nothing else is let through.
"""

import ast
import io
import zipfile
import zlib

from lnsdk.errors import InputError

# fmt: off
FUNCTIONS = frozenset({
    "_convolution", "abs", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "add", "add_", "addmm", "amax", "avg_pool2d",
    "avg_pool3d", "batch_norm", "bmm", "cat", "clamp", "clamp_", "clamp_min", "contiguous", "conv2d", "conv3d", "div",
    "div_", "einsum", "exp", "expand", "flatten", "floor", "ge", "gelu", "grid_sampler", "group_norm", "gt",
    "hardswish", "layer_norm", "le", "leaky_relu", "linear", "log", "lt", "matmul", "max_pool2d", "max_pool3d",
    "maximum", "mean", "minimum", "mul", "mul_", "neg", "permute", "relu", "relu_", "reshape", "select", "sigmoid",
    "silu", "size", "slice", "softmax", "softplus", "split", "sqrt", "squeeze", "stack", "sub", "sub_", "sum", "t",
    "tanh", "transpose", "unsqueeze", "upsample_bilinear2d", "upsample_nearest2d", "upsample_nearest3d",
    "upsample_trilinear3d", "view", "where",
})
# fmt: on
"""Functions of ``torch`` that a graph may call: arithmetic, without side effects outside its own tensors."""

CALLED = frozenset(
    {f"torch.{name}" for name in FUNCTIONS} | {"int", "float", "bool", "annotate", "ops.prim.NumToTensor"}
)
"""What may be called: these, and conversions of numbers."""

METHODS = frozenset({"forward"})
"""What a class may define. Others, such as ``__setstate__``, would run while the archive is loaded."""

STATEMENTS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.Assign, ast.AnnAssign, ast.Return, ast.Pass, ast.Expr)
"""Statements that may be there: nothing that loops or branches."""

STORAGE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How a file of code may lie in the archive."""

LARGEST_CODE = 4 << 20
"""Bytes of code; the paper's network has some hundred thousand."""


def check_torchscript(name: str, content: bytes) -> None:
    """Refuse a TorchScript archive whose code does anything but call functions on tensors.

    Parameters
    ----------
    name : str
        Of the file, for the message.
    content : bytes
        The file.

    Raises
    ------
    InputError
        ``bundle-graph``.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            trees = [ast.parse(source) for source in _sources(archive)]
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, SyntaxError, RecursionError) as error:
        raise InputError("bundle-graph", f"{name} is no TorchScript archive ({error})") from error
    for tree in trees:
        for node in ast.walk(tree):
            what = _refused(node)
            if what is not None:
                raise InputError(
                    "bundle-graph",
                    f"{name} does more than arithmetic: {what}; export it with lnsdk, or use the ONNX file",
                )


def _sources(archive: zipfile.ZipFile) -> list[str]:
    """The files of code, without what goes with them: positions in the original."""
    entries = [entry for entry in archive.infolist() if "code/" in entry.filename]
    if any(entry.flag_bits & 1 or entry.compress_type not in STORAGE for entry in entries):
        raise ValueError("its code is encrypted, or compressed otherwise than by deflate")
    size = sum(entry.file_size for entry in entries)
    if size > LARGEST_CODE:
        raise ValueError(f"it has {size} bytes of code")
    return [archive.read(entry).decode() for entry in entries if not entry.filename.endswith(".debug_pkl")]


def _refused(node: ast.AST) -> str | None:
    """Say what is wrong with a part of the code, if anything."""
    if isinstance(node, ast.stmt) and not isinstance(node, STATEMENTS):
        return f"it has a statement {type(node).__name__}"
    if isinstance(node, ast.FunctionDef) and node.name not in METHODS:
        return f"it defines {node.name}"
    if isinstance(node, ast.Call) and ast.unparse(node.func) not in CALLED:
        return f"it calls {ast.unparse(node.func)}"
    return None
