"""Leverage scores: how much each row or column matters to the leading singular subspace."""

from typing import Any

import numpy as np

from curtensor import _validation, operands
from curtensor.operands import ndarray
from curtensor.selection import row_norms_squared
from curtensor.sketching import SKETCHES
from curtensor.svd import truncated_svd

METHODS = ("exact", "sketch")


def leverage_scores(
    A: Any,
    k: int | None = None,
    *,
    axis: int = 0,
    method: str = "exact",
    normalize: bool = False,
    rng: _validation.RandomSource = None,
) -> np.ndarray:
    """Rank-k leverage scores of the rows or columns of a matrix.

    The score of row i is the squared norm of row i of U_k, of column j that of column j of V_k^H, from the truncated
    singular value decomposition U_k S_k V_k^H of A.

    Parameters
    ----------
    A : array_like, sparse matrix or DataFrame, shape (m, n)
        Real or complex; integers and bool are taken as float64.
    k : int, optional
        Number of leading singular vectors, 1 to min(m, n); by default the numerical rank.
    axis : 0 or 1, default 0
        0 for the scores of rows, 1 for those of columns.
    method : "exact" or "sketch", default "exact"
        By a full singular value decomposition of A, made dense, or by a randomized one for rank k.
    normalize : bool, default False
        Divide by the sum, so that the scores are sampling probabilities.
    rng : None, int, SeedSequence or Generator, optional
        Source of randomness for the sketch.

    Returns
    -------
    scores : ndarray of float, shape (m,) or (n,)
        Each from 0 to 1; their sum is k, or the numerical rank where that is lower. With `normalize` it is 1. In the
        precision of A.

    Raises
    ------
    TypeError
        If A is no array of numbers, or another argument of the wrong kind.
    ValueError
        If A is not two-dimensional, empty, or not finite; if k or the axis is out of range; if A is zero and
        `normalize` is asked for.

    Notes
    -----
    Exact: one pass to copy A, O(m n min(m, n)) operations, O(m n) memory. Sketch: eight passes, O(m n k) operations,
    O((m + n) k) memory. The scores are unique only where the k-th and the next singular value differ, and the sketch
    finds them the better the further these are apart.

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
    k = None if k is None else _validation.integer(k, "k", 1, min(A.shape))
    axis = _validation.integer(axis, "axis", 0, 1)
    _validation.one_of(METHODS, method, "method")
    normalize = _validation.flag(normalize, "normalize")
    rng = _validation.generator(rng)

    U, s, Vh = leading_vectors(operand, A, k or min(A.shape), method, rng)
    known = s > max(A.shape) * np.finfo(s.dtype).eps * s.max(initial=0)
    vectors = (U if axis == 0 else Vh.conj().T)[:, known]
    scores = np.minimum(row_norms_squared(vectors), 1)
    if normalize:
        if not known.any():
            raise _validation.complain(ValueError, "A", "not zero where normalize=True", "a zero matrix")
        scores /= scores.sum()
    return scores.astype(s.dtype, copy=False)


def leading_vectors(operand, A, k, method, rng):
    """The leading singular triplets, exact or by block Krylov iteration."""
    if method == "sketch":
        return truncated_svd(operand, A, k, 10, 3, SKETCHES["sparse_sign"], rng)
    whole = np.concatenate([panel for _, panel in operand.panels(A)])
    _validation.finite(ndarray, whole)
    U, s, Vh = np.linalg.svd(whole, full_matrices=False)
    return U[:, :k], s[:k], Vh[:k]
