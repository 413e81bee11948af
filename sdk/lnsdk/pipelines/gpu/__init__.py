"""Slices through the network without leaving the GPU: kernels of `lnsdk.ops.cuda` and torch on the same memory."""

from lnsdk.pipelines.gpu.detection import GpuDetection, Graphs
from lnsdk.pipelines.gpu.device import Cuda, Device

__all__ = ["Cuda", "Device", "GpuDetection", "Graphs"]
