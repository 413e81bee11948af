"""TensorRT's real bindings of two major versions, and pycuda's sources, against ``typings/``: what our layer may call.

mypy refuses every name of theirs that is not in ``typings/``, and the tests compare those with the real ones. NVIDIA's
builder library is not needed: stub libraries stand in for it, so what is proven are names, parameters and enum members,
and nothing of what the calls do. The lean runtime is its real library: its logger and runtime are made for real, but no
engine, as that takes a GPU (without one, a runtime that is asked to read an engine ends the process).
"""

import ast
import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnsdk.backends.tensorrt import TensorRTBackend

ROOT = Path(__file__).parents[3]
TYPINGS = ROOT / "typings"
LAYER = ROOT / "sdk/lnsdk/backends/tensorrt"

BINDINGS = (
    "tensorrt-cu12-bindings==10.12.0.36",
    "tensorrt-cu13-bindings==10.16.1.11",
    "tensorrt-cu13-bindings>=11,<12",
)
LEAN = ("10.16.1.11", "11.4.0.106")

RUNTIME_CLASSES = {
    "Dims",
    "Severity",
    "ILogger",
    "ExecutionContextAllocationStrategy",
    "TensorIOMode",
    "DataType",
    "IExecutionContext",
    "ICudaEngine",
    "Runtime",
}
"""What is used of the lean runtime."""

DESCRIBE = '''
import importlib, json, re, sys

module = importlib.import_module(sys.argv[1])
wanted = json.loads(sys.argv[2])
missing = []

def names(text):
    """Parameters of one signature of pybind11's documentation, without self, and whether each has a default."""
    parts, depth, part = [], 0, ""
    for letter in text:
        depth += (letter in "([<") - (letter in ")]>")
        if letter == "," and not depth:
            parts.append(part)
            part = ""
        else:
            part += letter
    return [(part.split(":")[0].strip(), "=" in part) for part in [*parts, part] if part.strip()][1:]

def signatures(function):
    name = function.__name__
    for line in (function.__doc__ or "").splitlines():
        found = re.match(rf"(?:\\d+\\. )?{name}\\((.*)\\)(?: -> .*)?$", line.strip())
        if found and "*args" not in line:
            yield names(found.group(1))

for class_name, members in wanted.items():
    real = getattr(module, class_name, None)
    if class_name == "Severity":
        real = module.ILogger.Severity
    if real is None:
        missing.append(class_name)
        continue
    for name, (kind, parameters) in members.items():
        member = getattr(real, name, None)
        where = f"{class_name}.{name}"
        if name == "__buffer__":  # the buffer protocol of C, which has no name
            continue
        if member is None and not (name == "__iter__" and hasattr(real, "__getitem__")):
            missing.append(where)
        elif kind == "value" and isinstance(member, property) and member.fset is None:
            missing.append(f"{where}: cannot be set")
        elif kind == "method" and not name.startswith("__") or name == "__init__" and parameters:
            found = list(signatures(member))
            fits = [
                [each for each, _ in given[: len(parameters)]] == parameters
                and all(default for _, default in given[len(parameters):])
                for given in found
            ]
            if not any(fits):
                missing.append(f"{where}({', '.join(parameters)}): {found}")
print(json.dumps([module.__version__, missing]))
'''


def described(path: Path) -> dict[str, dict[str, tuple[str, list[str]]]]:
    """Classes of a stub, their members, and the parameters of methods without self."""
    classes: dict[str, dict[str, tuple[str, list[str]]]] = {}
    for statement in ast.parse(path.read_text()).body:
        if isinstance(statement, ast.ClassDef):
            classes[statement.name] = dict(_members(statement))
    return classes


def _members(statement: ast.ClassDef) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    for member in statement.body:
        match member:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                is_enum = isinstance(annotation, ast.Name) and annotation.id in (statement.name, "Severity")
                yield name, ("member" if is_enum else "value", [])
            case ast.FunctionDef(name=name, decorator_list=decorators):
                kinds = {each.id for each in decorators if isinstance(each, ast.Name)}
                arguments = [argument.arg for argument in (*member.args.posonlyargs, *member.args.args)]
                yield (
                    name,
                    ("property", []) if "property" in kinds else ("method", [n for n in arguments if n != "self"]),
                )


def test_nothing_is_declared_that_is_not_used() -> None:
    used = {
        name for path in LAYER.glob("*.py") for node in ast.walk(ast.parse(path.read_text())) for name in _names(node)
    }
    for stub in (TYPINGS / "tensorrt/__init__.pyi", TYPINGS / "pycuda/driver.pyi"):
        for class_name, members in described(stub).items():
            unused = {name for name in members if not name.startswith("__")} - used
            assert not unused, f"{class_name} of {stub.name} declares {unused}"


def _names(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Attribute(attr=name) | ast.FunctionDef(name=name):
            yield name


def test_no_name_of_weak_typing_is_used() -> None:
    names = {
        name for path in LAYER.glob("*.py") for node in ast.walk(ast.parse(path.read_text())) for name in _names(node)
    }
    assert not names & {"FP16", "INT8", "EXPLICIT_BATCH", "int8_calibrator", "autoinit", "build_serialized_network"}
    assert TensorRTBackend().precisions("cuda") == ("fp32", "fp16")


def test_pycuda_is_never_imported_for_its_side_effects() -> None:
    assert not [path for path in (ROOT / "sdk/lnsdk").rglob("*.py") if "import pycuda.autoinit" in path.read_text()]


def download(requirement: str, folder: Path, *options: str) -> Path:
    """Download one file of a package index, or skip the test where none can be reached."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *options]
    result = subprocess.run([*command, requirement], capture_output=True, text=True, check=False, timeout=300)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["pip gives no reason"])[-1]
        pytest.skip(f"{requirement} cannot be downloaded: {last}")
    (path,) = (path for path in folder.iterdir() if path.suffix in (".whl", ".gz"))
    return path


def unpacked(requirement: str, folder: Path) -> Path:
    """Download a wheel and unpack it; nothing is installed."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(download(requirement, folder, "--only-binary", ":all:")) as wheel:
        wheel.extractall(folder)
    return folder


def stub_libraries(extension: Path, folder: Path) -> None:
    """Compile a library for each of NVIDIA's that the bindings need, with functions that return nothing."""
    compiler, nm, readelf = (shutil.which(name) for name in ("cc", "nm", "readelf"))
    if not (compiler and nm and readelf):
        pytest.skip("stub libraries need a C compiler, nm and readelf")
    folder.mkdir()
    symbols = re.findall(r" U (\w+)$", _run(nm, "-D", "--undefined-only", str(extension)), re.MULTILINE)
    missing = [name for name in symbols if re.match(r"(create\w+_INTERNAL|get\w+(Registry|Version)|initLib\w+)$", name)]
    source = folder / "stubs.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in missing))
    for library in re.findall(r"\[(libnv\w+\.so\.\d+)\]", _run(readelf, "-d", str(extension))):
        _run(compiler, "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library), str(source))


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def differences(module: str, wanted: dict[str, dict[str, tuple[str, list[str]]]], *paths: Path) -> list[str]:
    """Import the real module in a process of its own and compare; returns its version and what is missing in it."""
    environment = {
        "PYTHONPATH": ":".join(map(str, paths)),
        "LD_LIBRARY_PATH": ":".join(str(p / "stubs") for p in paths),
    }
    command = [sys.executable, "-c", DESCRIBE, module, json.dumps(wanted)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    version, missing = json.loads(result.stdout)
    assert tuple(int(part) for part in version.split(".")[:2]) >= (10, 12)
    return list(missing)


@pytest.mark.slow
@pytest.mark.parametrize("requirement", BINDINGS)
def test_every_call_is_in_the_real_bindings(requirement: str, tmp_path: Path) -> None:
    folder = unpacked(requirement, tmp_path / "bindings")
    stub_libraries(folder / "tensorrt_bindings/tensorrt.so", folder / "stubs")
    wanted = described(TYPINGS / "tensorrt/__init__.pyi")
    assert differences("tensorrt_bindings", wanted, folder) == []
    spoiled = wanted | {"Builder": {"build_everything": ("method", []), "create_network": ("method", ["odd"])}}
    found = differences("tensorrt_bindings", spoiled, folder)  # the comparison itself
    assert found[0] == "Builder.build_everything"
    assert found[1].startswith("Builder.create_network(odd)")


LEAN_RUNTIME = """
import tensorrt_lean_bindings as trt

messages = []

class Logger(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)

    def log(self, severity, msg):
        messages.append(severity)

runtime = trt.Runtime(Logger())
print("made")
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", LEAN)
def test_the_lean_runtime_is_as_declared_and_can_be_made(version: str, tmp_path: Path) -> None:
    """Its real library is loaded. Without a GPU it says so in the log; nothing is deserialized."""
    bindings = unpacked(f"tensorrt-lean-cu13-bindings=={version}", tmp_path / "bindings")
    libraries = unpacked(f"tensorrt-lean-cu13-libs=={version}", tmp_path / "libraries")
    wanted = {
        name: members
        for name, members in described(TYPINGS / "tensorrt/__init__.pyi").items()
        if name in RUNTIME_CLASSES
    }
    wanted["ICudaEngine"] = {k: v for k, v in wanted["ICudaEngine"].items() if k not in BUILDERS_ALONE}
    assert wanted.keys() == RUNTIME_CLASSES
    assert differences("tensorrt_lean_bindings", wanted, bindings, libraries) == []
    environment = {"PYTHONPATH": f"{bindings}:{libraries}"}
    command = [sys.executable, "-c", LEAN_RUNTIME]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.stdout == "made\n", result.stderr


BUILDERS_ALONE = ("create_engine_inspector", "serialize")
"""What is asked of an engine while it is built, with the whole of TensorRT."""


@pytest.mark.slow
def test_every_name_is_in_pycudas_sources(tmp_path: Path) -> None:
    """Names and parameters where its bindings name them. It is not compiled, as that needs CUDA."""
    options = ("--no-binary", "pycuda", "--no-build-isolation")
    with tarfile.open(download("pycuda", tmp_path, *options)) as archive:
        (member,) = (each for each in archive.getmembers() if each.name.endswith("wrap_cudadrv.cpp"))
        stream = archive.extractfile(member)
        assert stream is not None
        source = stream.read().decode()
    stub = TYPINGS / "pycuda/driver.pyi"
    for class_name, members in described(stub).items():
        assert re.search(rf'\("{class_name}"|DECLARE_EXC\({class_name},', source), class_name
        for name in members:
            if not name.startswith("__"):
                assert re.search(rf'"{name}"|DEF_SIMPLE_METHOD\({name}\)', source), f"{class_name}.{name}"
    for statement in ast.parse(stub.read_text()).body:
        if isinstance(statement, ast.FunctionDef):
            found = re.search(rf'py::def\("{statement.name}", .*?;', source, re.DOTALL)
            assert found, statement.name
            named = re.findall(r'py::args?\("(\w+)"\)', found.group())
            ours = [argument.arg for argument in statement.args.args]
            assert named[: len(ours)] in ([], ours), statement.name
