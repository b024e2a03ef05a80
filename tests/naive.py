"""Slow, obvious twins of the kernels."""

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


def osinsky_pass(basis, residual, k, ridge, weights):
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
