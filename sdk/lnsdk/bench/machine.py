"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lnsdk._jit import processor
from lnsdk._version import __version__
from lnsdk.threads import available_cores


def facts() -> dict[str, Any]:
    """Processor, cores, memory, GPUs and versions, for JSON."""
    return {
        "processor": _model(),
        "instructions": processor().split()[0],
        "cores": available_cores(),
        "memory_bytes": _memory(),
        "gpus": _gpus(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "lnsdk": __version__,
    }


def describe(found: Mapping[str, Any]) -> str:
    """Say `facts` in one line."""
    memory = f", {found['memory_bytes'] / 2**30:.0f} GiB" if found["memory_bytes"] else ""
    gpus = "".join(f", {gpu}" for gpu in found["gpus"])
    return (
        f"{found['processor']} ({found['instructions']}), {found['cores']} cores{memory}{gpus}; Python "
        f"{found['python']}, lnsdk {found['lnsdk']}."
    )


def _model() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _memory() -> int:
    """Bytes of memory; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _gpus() -> list[str]:
    """Names of NVIDIA's GPUs with their drivers' version."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True)
    except (subprocess.SubprocessError, OSError):  # a driver that does not answer
        return []
    return done.stdout.strip().splitlines()
