"""Fixtures of all tests: seeded randomness, read-only input, and an operand which counts the passes over it."""

import os
import sys
from types import ModuleType

import hypothesis
import numpy as np
import pytest
import scipy.linalg  # noqa: F401  (which has a BLAS of its own)
from threadpoolctl import threadpool_limits

from curtensor import operands
from curtensor.operands import ndarray, usual

# One thread unless more are asked for, since on a shared machine several wait for each other busily: of what is loaded,
# and of what comes later.
THREADS = os.environ.get("CURTENSOR_TEST_THREADS", "1")
threadpool_limits(int(THREADS), "blas")
os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), THREADS)

collect_ignore = ["typed_calls.py"]  # read by a type checker, never run

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture
def rng():
    """A generator with the same seed in each test."""
    return np.random.default_rng(20240917)


class Distant:
    """A matrix which nothing but its operand can look into; it notes each pass over it and each slice taken."""

    def __init__(self, array, log=None):
        self.array, self.log = array, [] if log is None else log
        self.shape, self.dtype = array.shape, array.dtype

    @property
    def T(self):
        return Distant(self.array.T, self.log)

    @property
    def passes(self):
        """Number of passes so far."""
        return sum(name != "take" for name in self.log)


def _counted(name):
    function = getattr(ndarray, name)

    def count(A, *arguments, **options):
        A.log.append(name)
        return function(A.array, *arguments, **options)

    return count


@pytest.fixture
def distant(monkeypatch):
    """Makes a `Distant` matrix of an array, after entering its operand as a new kind of array is entered."""
    module = ModuleType("curtensor.operands.distant")
    module.wrap = lambda A: A
    module.dtype = lambda A: ndarray.dtype(A.array)
    products = ("matmat", "rmatmat", "sketch_both", "images_and_norms")
    for name in (*products, "take", "panels", "first_nonfinite", "largest"):
        setattr(module, name, _counted(name))
    module.diagonal = lambda A: ndarray.diagonal(A.array)
    module.take_and_rmatmat = lambda A, indices, Y: (module.take(A, indices, 0), module.rmatmat(A, Y))
    module.normal_product = lambda A, X: module.rmatmat(A, module.matmat(A, X))
    module.squared_norm = lambda A, exponent=0: ndarray.squared_norm(A.array, exponent)
    module.copies_multiples = lambda A: True
    module.knows_norm, module.by_columns, module.like = usual.knows_norm, usual.by_columns, usual.like
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(operands.OPERANDS, Distant.__module__, "distant")
    return Distant
