"""How far an approximation is from the matrix."""

import functools
import operator
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from curtensor import _validation, operands
from curtensor.operands import linear_operator, ndarray, scipy_sparse
from curtensor.operands.arithmetic import dense, row_slices, times_power
from curtensor.sketching import gaussian, sketch_matrix
from curtensor.svd import truncated_svd

NORMS = ("fro", "spectral", "max")
PICKING_NUMBERS = 2**17  # numbers in the matrix that picks rows of an approximation which has only products
KRYLOV_STEPS = 8  # with 10 vectors: the spectral norm to about three digits, from below


def relative_error(
    A: Any,
    approximation: Any,
    /,
    *,
    norm: str = "fro",
    n_probes: int | None = None,
    rng: _validation.RandomSource = None,
) -> float:
    """Norm of A less an approximation, over the norm of A.

    ``||A - B|| / ||A||`` for the Frobenius norm, the spectral norm or the largest modulus of an entry.

    Parameters
    ----------
    A : array of any framework, sparse matrix, DataFrame, dask array or `row_blocks`, shape (m, n)
        Real or complex.
    approximation : array of any framework, sparse matrix, LinearOperator, CUR, SVD or ID, shape (m, n)
        B; it is never formed whole.
    norm : "fro", "spectral" or "max", default "fro"
        Which norm.
    n_probes : int, optional
        Estimate the Frobenius norms from so many products with random vectors, 1 or more. Then the estimate is an
        unbiased one of the square, with a standard deviation of at most sqrt(2 / n_probes) of it; otherwise exact.
    rng : None, int, SeedSequence or Generator, optional
        Source of the probes, and of the start of the spectral norm's iteration.

    Returns
    -------
    error : float
        At least 0; 0 where both norms are, and inf where that of A alone is.

    Raises
    ------
    TypeError
        If A or the approximation is of the wrong kind.
    ValueError
        If the shapes differ, A is not finite, the norm is unknown, or `n_probes` goes with another norm.

    Notes
    -----
    Passes over A: two for the exact Frobenius norm and the largest entry, one with probes [1]_, 39 for the spectral
    norm. Exact: O(m n k) operations for an approximation of rank k, in panels of rows. Probes: O(m n n_probes).
    Spectral: block Krylov iteration [2]_ with ten vectors, 19 passes each for A and for A - B; to about three digits,
    from below. Memory is that of the panels or vectors.

    A is copied in no layout, but a sparse one is converted where it is neither CSR nor CSC or not of floats, and a
    DataFrame with columns of several dtypes is put together.

    References
    ----------
    .. [1] P.-G. Martinsson, J. A. Tropp, "Randomized numerical linear algebra", Acta Numerica 29, 2020, section 4.
    .. [2] C. Musco, C. Musco, "Randomized block Krylov methods for stronger and faster approximate singular value
       decomposition", NeurIPS 2015.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> A = np.diag([4.0, 3.0])
    >>> ct.relative_error(A, np.diag([4.0, 0.0]))
    0.6
    >>> ct.relative_error(A, np.diag([4.0, 0.0]), norm="spectral")
    0.75
    """
    operand, A = operands.find(A)
    approximation = approximation_of(approximation, A.shape)
    _validation.one_of(NORMS, norm, "norm")
    if n_probes is not None:
        n_probes = _validation.integer(n_probes, "n_probes", 1, 10**6)
        if norm != "fro":
            raise _validation.complain(ValueError, "n_probes", "None unless norm is 'fro'", n_probes)
    rng = _validation.generator(rng)

    if n_probes is not None:
        return probed_error(operand, A, approximation, n_probes, rng)
    if norm == "spectral":
        return spectral_error(operand, A, approximation, rng)
    return exact_error(operand, A, approximation, np.linalg.norm if norm == "fro" else largest_modulus)


def approximation_of(approximation, shape):
    """An approximation as a LinearOperator of the right shape."""
    if hasattr(approximation, "as_linear_operator"):
        operator = approximation.as_linear_operator()
    elif hasattr(approximation, "matvec"):
        operator = aslinearoperator(approximation)
    else:
        approximation = operands.plain(approximation, "approximation")
        if not sparse.issparse(approximation):
            approximation = operands.find_tensor(approximation, "approximation").host().X
        if approximation.shape != tuple(shape):
            raise of_other_shape(approximation, shape)
        operator = array_operator(approximation)
    _validation.array_dtype(np.dtype(operator.dtype), "approximation")
    if operator.shape != tuple(shape):
        raise of_other_shape(operator, shape)
    return operator


def of_other_shape(approximation, shape):
    """The complaint about an approximation which is not of the shape of A."""
    return _validation.complain(ValueError, "approximation", f"of shape {tuple(shape)}", approximation.shape)


def array_operator(array):
    """A dense or sparse array in memory as a LinearOperator, none of it copied."""
    operand = scipy_sparse if sparse.issparse(array) else ndarray
    array = operand.wrap(array)

    def times(x):
        return operand.matmat(array, x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])

    def adjoint_times(y):
        return operand.rmatmat(array, y.reshape(len(y), -1)).reshape(-1, *y.shape[1:])

    operator = LinearOperator(
        array.shape, times, adjoint_times, matmat=times, rmatmat=adjoint_times, dtype=operand.dtype(array)
    )
    operator.factors = (array,)
    return operator


def exact_error(operand, A, approximation, measure):
    """Ratio of the measures of A - B and of A, panel by panel; each panel's is the measure's share."""
    scale = scale_of(operand, A)
    axis = int(operand.by_columns(A))
    residuals, sizes = [0.0], [0.0]
    for rows, panel in operand.panels(A.T if axis == 1 else A):
        for part in row_slices(panel.shape, 0, panel.itemsize, panel.nbytes):
            block = panel[part]
            residual = block - dense_slices(approximation, rows.start + part.start, len(block), axis)
            residual /= scale
            residuals.append(measure(residual))
            sizes.append(measure(block / scale))
    return ratio(measure(np.array(residuals)), measure(np.array(sizes)))


def scale_of(operand, A):
    """Largest modulus of A, which also shows whether A is finite; 1 for a zero matrix."""
    scale = operand.largest(A)
    if not np.isfinite(scale):
        _validation.finite(operand, A)
    return scale or 1


def dense_slices(approximation, start, count, axis):
    """Rows (axis 0), or columns (axis 1) as rows, of the approximation as a dense array."""
    if hasattr(approximation, "factors"):
        first, *others = approximation.factors if axis == 0 else [part.T for part in approximation.factors[::-1]]
        return dense(functools.reduce(operator.matmul, others, first[start : start + count]))
    length, other = approximation.shape[axis], approximation.shape[1 - axis]
    width = max(1, PICKING_NUMBERS // length)
    slices = np.empty((count, other), approximation.dtype)
    for first in range(0, count, width):
        width = min(width, count - first)
        picked = np.zeros((length, width), approximation.dtype)
        picked[np.arange(start + first, start + first + width), np.arange(width)] = 1
        images = approximation.rmatmat(picked).conj() if axis == 0 else approximation.matmat(picked)
        slices[first : first + width] = images.T
    return slices


def largest_modulus(X):
    """Largest modulus of an entry."""
    return float(np.abs(X).max(initial=0))


def probed_error(operand, A, approximation, n_probes, rng):
    """Ratio of the norms of A - B and of A on the same random vectors."""
    probes = gaussian(A.shape[1], n_probes, operand.dtype(A), rng)
    sketched = sketch_matrix(operand, A, sparse.csr_array((A.shape[0], 0), dtype=probes.dtype), probes)
    half = sketched.exponent // 2  # before and after the product, that neither leaves the range
    product = times_power(approximation @ times_power(probes, half), sketched.exponent - half)
    return ratio(np.linalg.norm(sketched.right - product), np.linalg.norm(sketched.right))


def spectral_error(operand, A, approximation, rng):
    """Ratio of the largest singular values, each by block Krylov iteration."""
    scale = scale_of(operand, A)

    def largest_of(times, adjoint_times):
        B = LinearOperator(
            A.shape, dtype=operand.dtype(A), matvec=times, matmat=times, rmatvec=adjoint_times, rmatmat=adjoint_times
        )
        return truncated_svd(linear_operator, B, 1, 19, KRYLOV_STEPS, gaussian, rng).s.sum()

    def of_A(x):
        return operand.matmat(A, x) / scale

    def of_A_adjoint(y):
        return operand.rmatmat(A, y) / scale

    size = largest_of(of_A, of_A_adjoint)
    rest = largest_of(
        lambda x: of_A(x) - approximation.matmat(x) / scale,
        lambda y: of_A_adjoint(y) - approximation.rmatmat(y) / scale,
    )
    return ratio(rest, size)


def ratio(error, size):
    """Error over size; 0 for two zeros, infinite where only the size is zero."""
    if size == 0:
        return 0.0 if error == 0 else float("inf")
    return float(error / size)


def residual_norm(operand, A, left, right):
    """``||A - left @ right||_F`` from the residual itself, panel by panel, so that no digits cancel."""
    if operand.by_columns(A):
        A, left, right = A.T, right.T, left.T
    total = 0.0
    for rows, panel in operand.panels(A):
        residual = left[rows] @ right
        residual -= panel
        total += float(np.vdot(residual, residual).real)
    return np.sqrt(total)
