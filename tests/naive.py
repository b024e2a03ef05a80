"""Slow, obvious twins of the kernels and of rules."""

import numpy as np


def sketch_panel(panel, rows, row_signs, cols, col_signs, left, right):
    """Both sketches by dense test matrices."""
    m, n = panel.shape
    Y, X = np.zeros((m, len(left))), np.zeros((n, len(right)))
    np.add.at(Y, (np.arange(m)[:, None], rows), row_signs)
    np.add.at(X, (np.arange(n)[:, None], cols), col_signs)
    left += Y.T @ panel
    right += (panel @ X).T
    return squared_moduli(panel)


def squared_moduli(panel):
    """Squared Frobenius norm."""
    return float((np.abs(panel.astype(complex)) ** 2).sum())


def osinsky(basis, residual, k, ridge, weights):
    """Osinsky's rule with a ridge: coefficients and residuals made anew from the chosen rows at each step."""
    chosen = []
    for _ in range(k):
        span = basis[chosen].conj().T  # k x i
        coefficients = basis @ np.linalg.pinv(span).conj().T
        outside = basis - coefficients @ basis[chosen]
        rest = residual - coefficients @ residual[chosen]
        loss = (np.abs(rest) ** 2).sum(axis=1) + ridge * (1 + (np.abs(coefficients) ** 2).sum(axis=1))
        leverage = (np.abs(outside) ** 2).sum(axis=1)
        with np.errstate(divide="ignore"):
            score = loss / (leverage * weights)
        score[chosen] = np.inf
        chosen.append(int(score.argmin()))
    return chosen


def block_circulant(X):
    """The matrix (d1 d3, d2 d3) whose block in row t and column s is frontal slice t - s, in a circle."""
    d3 = X.shape[2]
    return np.block([[X[:, :, (t - s) % d3] for s in range(d3)] for t in range(d3)])


def tubal_truncation(X, rank):
    """Best approximation by a tubal rank: the whole transform, one slice after the other."""
    Z = np.fft.fft(X, axis=2)
    for k in range(X.shape[2]):
        U, s, Vh = np.linalg.svd(Z[:, :, k])
        Z[:, :, k] = U[:, :rank] * s[:rank] @ Vh[:rank]
    Y = np.fft.ifft(Z, axis=2)
    return Y if np.iscomplexobj(X) else Y.real


def pack_panel(slabs, panel):
    """The slabs' mode-1 unfolding."""
    panel[:] = np.concatenate(list(slabs), axis=1)


def gather(flat, rows, columns, out):
    """Fancy indexing by all sums of offsets."""
    out[:] = flat[rows[:, None] + columns]
