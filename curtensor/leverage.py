"""Leverage scores: how much each row or column matters to the leading singular subspace."""

from typing import Any

import numpy as np
from scipy import sparse

from curtensor import _validation, operands
from curtensor.operands import ndarray
from curtensor.selection import row_norms_squared
from curtensor.sketching import SKETCHES, random_matrix, sketch_matrix
from curtensor.svd import new_directions, truncated_svd

SCORE_METHODS = ("exact", "sketch")
EXTRA_VECTORS = 10  # vectors beyond the rank in a block
N_BLOCKS = 3  # of a Krylov basis


def leverage_scores(
    A: Any,
    /,
    rank: int | None = None,
    *,
    axis: int = 0,
    method: str = "exact",
    normalize: bool = False,
    rng: _validation.RandomSource = None,
) -> np.ndarray:
    """Leverage scores of the rows or columns of a matrix in its leading singular vectors.

    The score of row i is the squared norm of row i of U_k, of column j that of column j of V_k^H, from the truncated
    singular value decomposition U_k S_k V_k^H of A, where k is the rank.

    Parameters
    ----------
    A : array of any framework, sparse matrix, DataFrame, dask array or `row_blocks`, shape (m, n)
        Real or complex; integers and bool are taken as float64.
    rank : int, optional
        Number of leading singular vectors, 1 to min(m, n); by default the numerical rank.
    axis : 0 or 1, default 0
        0 for the scores of rows, 1 for those of columns.
    method : "exact" or "sketch", default "exact"
        By a full singular value decomposition of A, made dense, or by a randomized one for the rank.
    normalize : bool, default False
        Divide by the sum, so that the scores are sampling probabilities.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness for the sketch.

    Returns
    -------
    scores : ndarray of float, shape (m,) or (n,)
        Each from 0 to 1; their sum is `rank`, or the numerical rank where that is lower. With `normalize` it is 1. In
        the precision of A.

    Raises
    ------
    TypeError
        If A is no array of numbers, or another argument of the wrong kind.
    ValueError
        If A is not two-dimensional, empty, or not finite; if the rank or the axis is out of range; if A is zero and
        `normalize` is asked for.

    Notes
    -----
    Exact: A is copied, O(m n min(m, n)) operations, O(m n) memory. Sketch: O(m n k) operations, and seven passes
    (four where A is read in blocks of rows, no wider than tall) for the shorter side of A, with O(min(m, n) k) memory;
    one pass more for the longer side, with O((m + n) k) memory. It works with A^H A, and where the k-th singular value
    is too small for that, or k is large, with A, by eight passes more. The scores are unique only where the k-th and
    the next singular value differ, and the sketch finds them the better the further these are apart.

    A is copied in no layout, but a sparse one is converted where it is neither CSR nor CSC or not of floats, and a
    DataFrame with columns of several dtypes is put together.

    References
    ----------
    .. [1] P. Drineas, M. W. Mahoney, S. Muthukrishnan, "Relative-error CUR matrix decompositions", SIAM J. Matrix
       Anal. Appl. 30(2), 2008.

    Examples
    --------
    >>> import numpy as np, curtensor as ct
    >>> A = np.array([[2.0, 0], [0, 1], [0, 1]])
    >>> ct.leverage_scores(A).round(6)
    array([1. , 0.5, 0.5])
    >>> ct.leverage_scores(A, 1, axis=1).round(6)
    array([1., 0.])
    """
    operand, A = operands.find(A)
    rank = None if rank is None else _validation.integer(rank, "rank", 1, min(A.shape))
    axis = _validation.integer(axis, "axis", 0, 1)
    _validation.one_of(SCORE_METHODS, method, "method")
    normalize = _validation.flag(normalize, "normalize")
    rng = _validation.generator(rng)

    vectors, s = leading_vectors(operand, A, rank or min(A.shape), axis, method, rng)
    known = s > 64 * np.finfo(s.dtype).eps * s.max(initial=0)  # rounding does not grow with the sides
    scores = np.minimum(row_norms_squared(vectors[:, known]), 1)
    if normalize:
        if not known.any():
            raise _validation.complain(ValueError, "A", "not zero where normalize=True", "a zero matrix")
        scores /= scores.sum()
    return operand.like(A, scores.astype(s.dtype, copy=False))


def leading_vectors(operand, A, rank, axis, method, rng):
    """Leading singular vectors of the rows (axis 0) or columns (axis 1), one a column, and singular values."""
    if method == "sketch" and N_BLOCKS * (rank + EXTRA_VECTORS) < min(A.shape):
        tall = A.shape[0] >= A.shape[1]
        V, s, sketched = short_side_vectors(operand, A if tall else A.T, rank, rng)
        if s.min(initial=np.inf) > np.finfo(s.dtype).eps ** (1 / 4) * s.max(initial=0):  # half of the digits at least
            return V if axis == int(tall) else sketched.operand.matmat(sketched.A, V / s), s
    if method == "sketch":
        # two blocks have as many vectors as are asked for: so many, then, that each has rank + EXTRA_VECTORS
        U, s, Vh = truncated_svd(operand, A, rank, rank + 2 * EXTRA_VECTORS, N_BLOCKS, SKETCHES["sparse_sign"], rng)
    else:
        U, s, Vh = exact_svd(operand, A)
    return (U if axis == 0 else Vh.conj().T)[:, :rank], s[:rank]


def exact_svd(operand, A):
    """The singular value decomposition of A, made dense."""
    whole = np.concatenate([panel for _, panel in operand.panels(A)])
    _validation.finite(ndarray, whole)
    return np.linalg.svd(whole, full_matrices=False)


def short_side_vectors(operand, A, rank, rng):
    """Right singular vectors and values of a tall matrix, and its sketch, by a block Krylov basis of ``A^H A``.

    Nothing of the longer side is held. The Gram matrix loses twice the digits by which the values differ.
    """
    m, n = A.shape
    test = random_matrix(SKETCHES["sparse_sign"], m, rank + EXTRA_VECTORS, operand.dtype(A), rng)
    sketched = sketch_matrix(operand, A, test, sparse.csr_array((n, 0), dtype=test.dtype))
    image, scale = sketched.left, sketched.norm
    basis, images = np.empty((2, n, 0), image.dtype)
    for _ in range(N_BLOCKS):
        block = new_directions(image, [basis], scale)
        image, scale = sketched.operand.normal_product(sketched.A, block), sketched.norm**2
        basis, images = np.hstack([basis, block]), np.hstack([images, image])
    squares, W = np.linalg.eigh(basis.conj().T @ images)
    return basis @ W[:, : -rank - 1 : -1], np.sqrt(np.maximum(squares[: -rank - 1 : -1], 0)), sketched
