"""The package as a user gets it: built from its sources, installed without them, run from an empty folder."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("csrc", "sdk", "export", "trainers")
FILES = (
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
)

SMOKE = """
import sys
import numpy as np
import lnsdk
from lnsdk import _C

assert lnsdk.__file__.startswith(sys.argv[1]), lnsdk.__file__
assert lnsdk.__version__ == _C.__version__

voxels = np.full((12, 96, 96), -1000, np.int16)
voxels[:, 8:88, 8:88] = 40
detections = lnsdk.Detector()(lnsdk.Volume(voxels, np.diag([0.8, 0.8, 2.0, 1.0])))
assert isinstance(detections.lesions, (list, tuple))
assert "torch" not in sys.modules
"""


def _run(*command: str, folder: Path) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with an sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    checkout = folder / "checkout"
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
        shutil.copytree(ROOT / name, checkout / name, symlinks=True, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, checkout)
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), folder=checkout)
    return folder


def test_the_sdist_holds_ordinary_files(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        links = [member.name for member in sdist.getmembers() if member.issym() or member.islnk()]
        names = {member.name.partition("/")[2] for member in sdist.getmembers()}
    assert links == []
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").iterdir()} <= names


def test_the_wheel_holds_every_module_and_what_they_read(built: Path) -> None:
    package = ROOT / "sdk/lnsdk"
    modules = [*package.rglob("*.py"), *(ROOT / "export").rglob("*.py"), *(ROOT / "trainers").rglob("*.py")]
    read = [
        package / "py.typed",
        package / "_C.pyi",
        ROOT / "export/LICENSE",
        *package.glob("schema/*.json"),
        *(ROOT / "trainers").rglob("*.json"),
    ]
    read += [path for path in package.glob("models/**/*") if path.is_file()]
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    expected = set()
    for path in [*modules, *read]:
        inside = path.relative_to(package if path.is_relative_to(package) else ROOT)
        expected.add(f"lnsdk/{inside.as_posix()}")
    assert expected - names == set()


def test_the_wheel_detects_from_an_empty_folder(built: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    wheel = str(next(built.glob("*.whl")))
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    _run(*pip, "install", "--no-deps", "--target", str(site), wheel, folder=elsewhere)
    _run(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{SMOKE}", str(site), folder=elsewhere)
