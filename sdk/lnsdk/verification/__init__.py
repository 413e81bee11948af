"""Compares engines with the float32 reference, on CTs, on the machine at hand."""

from lnsdk.verification.cases import SIMULATED, VerificationCase, recorded_cases, simulated_case, simulated_cases
from lnsdk.verification.engines import REFERENCE, EngineChoice, choices
from lnsdk.verification.gate import Report, Row, verify
from lnsdk.verification.lesions import BOUNDS, Bounds, LesionParity, ParityError, check_lesions, compare_lesions

__all__ = [
    "BOUNDS",
    "REFERENCE",
    "SIMULATED",
    "Bounds",
    "EngineChoice",
    "LesionParity",
    "ParityError",
    "Report",
    "Row",
    "VerificationCase",
    "check_lesions",
    "choices",
    "compare_lesions",
    "recorded_cases",
    "simulated_case",
    "simulated_cases",
    "verify",
]
