"""Builds the compiled kernels and packages sdk/lnsdk; everything declarative stands in pyproject.toml."""

import re
import sys
from glob import glob
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import find_packages, setup

ROOT = Path(__file__).parent
for name in ("export", "trainers"):
    if (ROOT / name).is_dir() and not (ROOT / "sdk/lnsdk" / name / "__init__.py").is_file():
        raise SystemExit(
            f"sdk/lnsdk/{name} must be a symlink to ../../{name}, but git wrote a plain file.\n"
            "Run `git config core.symlinks true && git checkout -- sdk/lnsdk` and install again."
        )

version_line = re.search(r'^__version__ = "([^"]+)"$', (ROOT / "sdk/lnsdk/_version.py").read_text(), re.MULTILINE)
if version_line is None:
    raise SystemExit('sdk/lnsdk/_version.py must hold one line of the form __version__ = "1.2.3"')
VERSION = version_line.group(1)

# A fused multiply-add rounds once where two operations round twice. Without it a box gets the same IoU on every CPU,
# the one that the oracles and torchvision compute.
# Vectors need not raise the floating-point exceptions that nobody reads.
COMPILER_OPTIONS = (
    ["/O2", "/fp:precise"] if sys.platform == "win32" else ["-O3", "-ffp-contract=off", "-fno-trapping-math"]
)

ParallelCompile("LNSDK_BUILD_JOBS", default=0).install()  # one compiler per core

setup(
    version=VERSION,
    package_dir={"": "sdk"},
    packages=find_packages("sdk"),
    ext_modules=[
        Pybind11Extension(
            "lnsdk._C",
            sorted(glob("csrc/python/*.cpp")),
            include_dirs=["csrc"],
            depends=glob("csrc/**/*.hpp", recursive=True),
            define_macros=[("LNSDK_VERSION", f'"{VERSION}"')],
            extra_compile_args=COMPILER_OPTIONS,
            cxx_std=17,
        )
    ],
    cmdclass={"build_ext": build_ext},
    zip_safe=False,
)
