"""The stub of the compiled kernels names their arguments as the kernels do; stubtest cannot look into C++ functions."""

import ast
import re
from pathlib import Path

import lnsdk
from lnsdk import _C

STUB = Path(lnsdk.__file__).with_name("_C.pyi")


def _compiled_arguments(name: str) -> set[tuple[str, ...]]:
    """Argument names of every overload, from the signatures that pybind11 writes into the docstring."""
    signatures = re.findall(rf"{name}\((\w.*|)\) -> ", getattr(_C, name).__doc__)
    return {tuple(re.findall(r"(\w+): ", signature)) for signature in signatures}


def test_functions_and_their_arguments() -> None:
    written = {
        node.name: {tuple(argument.arg for argument in node.args.args)}
        for node in ast.parse(STUB.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    compiled = {name: _compiled_arguments(name) for name in dir(_C) if name.islower() and name[0] != "_"}
    assert written == compiled


def test_one_version() -> None:
    assert _C.__version__ == lnsdk.__version__
