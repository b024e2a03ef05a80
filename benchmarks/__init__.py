"""Benchmarks, and the figures of the docs: all on one thread, where nothing has loaded BLAS or Numba before."""

import os
import sys

THREAD_PINS = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

if "numpy" not in sys.modules:
    os.environ.update(THREAD_PINS)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # a choice of kernels that can slow a current NumPy
        os.environ.pop(name, None)
