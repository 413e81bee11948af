"""The hot kernels for data that are already on an NVIDIA GPU, bit for bit those of :mod:`lnsdk.ops`.

Inputs are C-contiguous arrays with ``__cuda_array_interface__``: CUDA tensors of torch, arrays of CuPy or numba.
Outputs are numba's device arrays, which ``torch.as_tensor`` and ``cupy.asarray`` take without a copy, or the caller's
``out``. Every call queues its work on ``stream`` (numba's, or a handle: ``stream.cuda_stream`` of torch, ``stream.ptr``
of CuPy; 0 is the default stream) and returns: nothing is copied to the host and nothing is waited for, but see
:class:`Workspace` for scratch memory. Values are therefore not looked at: NaN, which the functions on the CPU refuse,
is the caller's to keep out. Inputs must live until the stream has passed the call. The first call of each function
compiles its kernels, which takes about a second.

Nothing in lnsdk imports this package by itself, as it takes numba with it: ``import lnsdk.ops.cuda``.
"""

from lnsdk.ops.cuda._device import Workspace, require_gpu
from lnsdk.ops.cuda.boxes import Kept, nms
from lnsdk.ops.cuda.heatmap import vote_heatmap
from lnsdk.ops.cuda.proposals import Proposals, decode_proposals
from lnsdk.ops.cuda.slices import group_slices, resample_window

__all__ = [
    "Kept",
    "Proposals",
    "Workspace",
    "decode_proposals",
    "group_slices",
    "nms",
    "require_gpu",
    "resample_window",
    "vote_heatmap",
]
