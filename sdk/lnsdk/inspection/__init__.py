"""Looks through a bundle's graphs before an engine loads them: none may reach for what is outside its own file."""

from lnsdk.inspection.onnx_file import check_onnx
from lnsdk.inspection.torchscript_file import check_torchscript

__all__ = ["check_onnx", "check_torchscript"]
