"""Memory that functions of tensors take beyond the tensor, in every order in which it may lie."""

import tracemalloc

import numpy as np
import pytest

import curtensor as ct

LENGTH = 128
RANK = 6
PIECES = 2**21  # bytes of pieces in work, and of thin factors, whatever the tensor's size

# (X) to a result, and the largest share of X that its docstring names
CALLS = {
    "tensor_cur": (lambda X: ct.tensor_cur(X, RANK, rng=0), 0.25),
    "tensor_cur, fiber": (lambda X: ct.tensor_cur(X, RANK, method="fiber", rng=0), 0.25),
    "tensor_cur, projection": (lambda X: ct.tensor_cur(X, RANK, core="projection", rng=0), 0.25),
    "tensor_cur, rtol": (lambda X: ct.tensor_cur(X, rtol=1e-2, rng=0), 0.25),
    "st_hosvd": (lambda X: ct.st_hosvd(X, RANK), 0.05 + 1.5 * RANK / LENGTH),
    "hooi": (lambda X: ct.hooi(X, RANK, max_sweeps=2), 0.05 + 1.5 * RANK / LENGTH),
    "mode_dot": (lambda X: ct.mode_dot(X, np.ones((2, LENGTH)), 1), 0.05 + 2 / LENGTH),
    "multi_mode_dot": (lambda X: ct.multi_mode_dot(X, [np.ones((2, LENGTH))] * 3), 0.05 + 2 / LENGTH),
    "mode_gram": (lambda X: ct.mode_gram(X, 1), 0.05),
    "unfold": (lambda X: ct.unfold(X, 1), 1.05),
    "tubal_svd": (lambda X: ct.tubal_svd(X, 2), 1.1),
    "tubal_cur": (lambda X: ct.tubal_cur(X, 2, rng=0), 0.05 + 24 * 2 / LENGTH),
    "compare": (lambda X: ct.compare(X, RANK, methods=["cur"], rng=0), 1.3),
}


@pytest.fixture(scope="module")
def tensor():
    """Low rank and noise, 16 MiB."""
    rng = np.random.default_rng(0)
    factors = [np.linalg.qr(rng.standard_normal((LENGTH, RANK)))[0] for _ in range(3)]
    X = ct.tucker_to_tensor(rng.standard_normal((RANK,) * 3), factors)
    return np.ascontiguousarray(X) + 1e-6 * rng.standard_normal(X.shape)


LAYOUTS = {
    "C": lambda X: X,
    "Fortran": np.asfortranarray,
    "reversed": lambda X: X[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CALLS)
def test_memory_beyond_the_tensor_is_what_the_docstring_says(name, layout, tensor):
    call, share = CALLS[name]
    X = LAYOUTS[layout](tensor)
    call(X)
    tracemalloc.start()
    try:
        call(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= share * tensor.nbytes + PIECES
