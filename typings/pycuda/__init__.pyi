"""What lnsdk uses of pycuda is in `pycuda.driver`; ``pycuda.autoinit`` is never imported."""
