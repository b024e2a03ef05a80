"""Random test matrices, and the one pass over A that sketches it."""

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from curtensor import _validation
from curtensor.operands import scaled
from curtensor.operands.arithmetic import times_power

ENERGY_FLOOR = 100  # square roots of epsilon, below which the difference of two norms shows no relative error
ENTRIES = 4  # of a sparse-sign row: 2 failed once, 8 cost half as much again


def sparse_sign(n, size, dtype, rng, entries=ENTRIES):
    """A few random signs in each row, one in each of as many equal groups of columns."""
    entries = min(entries, size)
    edges = np.linspace(0, size, entries + 1).astype(np.int32)
    columns = rng.integers(edges[:-1], edges[1:], size=(n, entries), dtype=np.int32)
    signs = rng.choice(np.array([-1, 1]) / np.sqrt(entries), size=(n, entries)).astype(_real(dtype))
    starts = np.arange(0, n * entries + 1, entries)
    return sparse.csr_array((signs.ravel(), columns.ravel(), starts), shape=(n, size))


def countsketch(n, size, dtype, rng):
    """One random sign in each row."""
    return sparse_sign(n, size, dtype, rng, entries=1)


def gaussian(n, size, dtype, rng):
    """Independent normal entries of variance 1 / size."""
    return (rng.standard_normal((n, size)) / np.sqrt(size)).astype(_real(dtype))


def srtt(n, size, dtype, rng):
    """Random signs times a random choice of the discrete cosine transform's vectors."""
    frequencies = rng.choice(n, size, replace=False)
    waves = np.cos(np.pi / n * np.outer(np.arange(n) + 0.5, frequencies)) * np.sqrt(2 / size)
    waves[:, frequencies == 0] = np.sqrt(1 / size)
    return (rng.choice([-1.0, 1.0], size=(n, 1)) * waves).astype(_real(dtype))


SKETCHES = {"sparse_sign": sparse_sign, "gaussian": gaussian, "countsketch": countsketch, "srtt": srtt}


def random_matrix(sketch, n, size, dtype, rng):
    """A test matrix (n, size), or the identity where a sketch would be no smaller than what it sketches."""
    if size >= n:
        return sparse.eye_array(n, format="csr", dtype=_real(dtype))
    return checked_test_matrix(sketch(n, size, dtype, rng), n, size, _real(dtype))


def checked_test_matrix(S, n, size, dtype):
    """What a sketch gave, which may be a user's function, as a test matrix that kernels can index by: dense or CSR."""
    name = "the test matrix of sketch"
    if sparse.issparse(S):
        S = _validation.sound_sparse(sparse.csr_array(_validation.sound_sparse(S, name)), name)
    return test_matrix(S, (n, size), dtype, name)


class Sketched(NamedTuple):
    """What one pass over A leaves; A and all else times 2^exponent where A's scale needed it.

    A is of the operand beside it, which scales it as it is used where a copy of it would be large.
    """

    operand: Any
    A: Any
    left: np.ndarray
    right: np.ndarray
    norm: float
    exponent: int

    @property
    def T(self):
        """The same of A's transpose, for real test matrices."""
        return Sketched(self.operand, self.A.T, self.right.conj(), self.left.conj(), self.norm, self.exponent)


def sketch_matrix(operand, A, Y, X):
    """``A^H @ Y``, ``A @ X`` and ``||A||_F`` in one pass, which also shows whether A is finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        left, right, square = operand.sketch_both(A, Y, X)
    kind = operand.dtype(A)
    bound = float(np.finfo(kind).max) ** (5 / 8)
    if 1 / bound < square < bound or (square == 0 and not left.any() and not right.any()):
        return Sketched(operand, A, left, right, np.sqrt(square), 0)
    _validation.finite(operand, A)
    exponent = -int(np.frexp(operand.largest(A))[1])
    del left, right
    operand, A = scaled_lazily(operand, A, exponent)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        left, right, square = operand.sketch_both(A, Y, X)
    return Sketched(operand, A, left, right, np.sqrt(square), exponent)


def unsketched(operand, A):
    """``||A||_F`` and a scale alone, in one pass."""
    kind = _real(operand.dtype(A))
    return sketch_matrix(operand, A, *(sparse.csr_array((length, 0), dtype=kind) for length in A.shape))


def scaled_lazily(operand, A, exponent):
    """An operand and A times 2^exponent, A uncopied."""
    if operand.copies_multiples(A):
        return scaled, scaled.Scaled(operand, A, exponent)
    return operand, times_power(A, exponent)


def two_sided_sketch(operand, A, size, sketch, rng, right_size=None):
    """`Sketched` from both sides by test matrices of the given size or sizes, and the right test matrix."""
    m, n = A.shape
    Y = random_matrix(sketch, m, size, operand.dtype(A), rng)
    X = random_matrix(sketch, n, right_size or size, operand.dtype(A), rng)
    return sketch_matrix(operand, A, Y, X), X


def error_by_energy(norm, middle):
    """Relative error of a projection from the two norms, or None where rounding would spoil it."""
    if norm == 0:
        return None
    kept = np.linalg.norm(middle.astype(np.result_type(middle, float))) / norm
    square = (1 - kept) * (1 + kept)
    return float(np.sqrt(square)) if square > ENERGY_FLOOR**2 * np.finfo(middle.dtype).eps else None


def _real(dtype):
    return np.empty(0, dtype).real.dtype


def test_matrix(S, shape, dtype, name):
    """A real, finite test matrix of the shape asked for, dense or sparse, in the dtype asked for."""
    S = S if hasattr(S, "nnz") else _validation.nested_numbers(S, name)
    if S.dtype.kind not in "fiub":
        raise _validation.complain(TypeError, name, "an array or sparse matrix of real numbers", f"dtype {S.dtype}")
    if S.shape != shape:
        raise _validation.complain(ValueError, name, f"of shape {shape}", f"shape {S.shape}")
    S = S.astype(dtype, copy=False)
    if not np.isfinite(S.data if hasattr(S, "nnz") else S).all():
        raise _validation.complain(ValueError, name, "finite", "NaN or infinity")
    return S
