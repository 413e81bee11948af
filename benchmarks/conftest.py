"""Runs the benchmarks: as many threads for every library, one table at the end, and what the options ask for."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import SimpleITK as sitk
import torch

from benchmarks import report
from benchmarks.measuring import Measure
from lnsdk import threads

MEASURED: pytest.StashKey[list[report.Measured]] = pytest.StashKey()
RECORDED: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lnsdk")
    group.addoption("--write-results", type=Path, help="folder for kernels.json, kernels.md and growth.png")
    group.addoption("--check-against", type=Path, help="kernels.json whose ratios must not get worse")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MEASURED] = []
    recorded = config.getoption("--check-against")
    config.stash[RECORDED] = json.loads(recorded.read_text()) if recorded else {"cases": []}


@pytest.fixture(autouse=True, scope="session")
def _same_threads() -> Iterator[None]:
    torch.set_num_threads(report.THREADS)
    cv2.setNumThreads(report.THREADS)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(report.THREADS)
    with threads.limited_to(report.THREADS):
        yield


@pytest.fixture
def measure(benchmark: Any, pytestconfig: pytest.Config) -> Measure:
    """Times a case, which then stands in the table."""
    recorded = pytestconfig.stash[RECORDED]

    def is_worse(measured: report.Measured) -> bool:
        return any(change.is_worse for change in report.changes([measured], recorded))

    return Measure(benchmark, pytestconfig.stash[MEASURED], is_worse)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of recorded images, for benchmarks marked ``realdata``."""
    if "LNSDK_DATA" not in os.environ:
        pytest.fail("LNSDK_DATA is not set; it must name the folder of recorded images (or: -m 'not realdata')")
    return Path(os.environ["LNSDK_DATA"])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write and compare; a run with failures is not written."""
    measured, folder = session.config.stash[MEASURED], session.config.getoption("--write-results")
    if folder and measured and session.exitstatus == pytest.ExitCode.OK:
        report.write(measured, folder)
    if any(change.is_worse for change in report.changes(measured, session.config.stash[RECORDED])):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    measured = config.stash[MEASURED]
    if not measured:
        return
    terminalreporter.section("kernels against their peers")
    for text in (report.LEGEND, report.table(measured), report.notes(measured)):
        terminalreporter.write_line(f"{text}\n")
    if config.getoption("--check-against"):
        changes = report.changes(measured, config.stash[RECORDED])
        worse = [change for change in changes if change.is_worse]
        terminalreporter.section(f"ratios more than {report.WORSE} times worse: {len(worse)} of {len(changes)}")
        for change in worse:
            terminalreporter.write_line(str(change), red=True)
