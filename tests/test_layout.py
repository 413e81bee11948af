"""Imports run one way: trainers -> export -> sdk -> csrc, and the runtime needs neither torch nor tensorrt."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNTIME = [
    path
    for path in sorted((ROOT / "sdk/lnsdk").rglob("*.py"))
    if path.relative_to(ROOT / "sdk/lnsdk").parts[0] not in ("export", "trainers")
]
# fmt: off
NOT_HARD_DEPENDENCIES = (
    "cv2", "hypothesis", "jsonschema", "lightning", "matplotlib", "monai", "nibabel", "onnx", "onnxscript", "openslide",
    "openvino", "pycuda", "pytest", "safetensors", "scipy", "sklearn", "tensorrt", "timm", "torch", "torchvision",
)
# fmt: on


def _imported_at_import(statements: list[ast.stmt]) -> Iterator[str]:
    """Modules that these statements import while their own module is imported: not what functions import later."""
    for statement in statements:
        match statement:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _imported_at_import(statement.orelse)
            case ast.If() | ast.Try() | ast.With() | ast.ClassDef():
                for field in ("body", "orelse", "finalbody"):
                    yield from _imported_at_import(getattr(statement, field, []))
                for handler in getattr(statement, "handlers", []):
                    yield from _imported_at_import(handler.body)


def _offenders(paths: list[Path], forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in _imported_at_import(ast.parse(path.read_text()).body)
        if any(name == each or name.startswith(f"{each}.") for each in forbidden)
    ]


def test_the_runtime_imports_no_training_code() -> None:
    assert len(RUNTIME) > 20
    assert _offenders(RUNTIME, ("lnsdk.export", "lnsdk.trainers", *NOT_HARD_DEPENDENCIES)) == []


def test_only_the_training_commands_reach_training_code() -> None:
    """Inside functions too, by name, and through the console's `trainers`."""
    reaching = {path.relative_to(ROOT / "sdk/lnsdk").as_posix() for path in RUNTIME if _reaches(path)}
    commands = {"train_lens", "train_lens_data", "train_lens_table", "evaluate_lens", "export"}
    assert reaching == {"cli/console.py", *(f"cli/{command}.py" for command in commands)}


def _reaches(path: Path) -> bool:
    """Whether a file imports or names a module of training or export, or takes the console's way to them."""
    tree = ast.parse(path.read_text())
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call):
            arguments = (part for argument in node.args for part in ast.walk(argument))
            names |= {
                part.value for part in arguments if isinstance(part, ast.Constant) and isinstance(part.value, str)
            }
    return "trainers" in names or any(name.startswith(("lnsdk.export", "lnsdk.trainers")) for name in names)


def test_export_does_not_import_trainers() -> None:
    paths = sorted((ROOT / "export").rglob("*.py"))
    assert paths
    assert _offenders(paths, ("lnsdk.trainers",)) == []


def test_kernels_are_free_of_python() -> None:
    headers = sorted((ROOT / "csrc").glob("*.hpp"))
    assert headers
    assert [path.name for path in headers if "pybind11" in path.read_text() or "Python.h" in path.read_text()] == []
    assert {path.parent.name for path in (ROOT / "csrc").rglob("*.cpp")} == {"python"}


def _run(code: str, *arguments: str) -> None:
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


BARE_IMPORT = """
import importlib, sys

blocked = set(sys.argv[1].split())

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
for name in sys.argv[2:]:
    importlib.import_module(name)
assert not blocked & set(sys.modules), blocked & set(sys.modules)
"""


def test_every_module_imports_with_the_hard_dependencies_alone() -> None:
    names = [".".join(path.relative_to(ROOT / "sdk").with_suffix("").parts) for path in RUNTIME]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    _run(BARE_IMPORT, " ".join(NOT_HARD_DEPENDENCIES), *names)


@pytest.mark.parametrize("name", ["export", "trainers"])
def test_training_packages_refuse_their_bare_names(name: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.stderr.splitlines()[-1] == f"ImportError: import this package as lnsdk.{name}"


@pytest.mark.parametrize("name", ["export", "trainers"])
def test_training_packages_are_relative_symlinks(name: str) -> None:
    link = ROOT / "sdk/lnsdk" / name
    assert link.is_symlink()
    assert str(link.readlink()) == f"../../{name}"
