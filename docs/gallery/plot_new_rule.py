"""
A new selection rule in fifteen lines
=====================================

A rule is a function: it is given a basis with orthonormal columns, one row for each candidate, and what a sketch of
each candidate has outside of it, and returns the numbers of the rows that it chooses. ``method=`` takes it like any
other.
"""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import curtensor as ct

# %%
# Suppose that columns which lie side by side are to be avoided, sensors on a line, say. Here is the greedy rule "most
# of what is left, but no neighbour of what is chosen":


def apart(basis, residual, k, rng, distance=2):
    """Largest rows first, each projected out of the rest; none closer than the distance to another."""
    remainder = basis.copy()
    allowed = np.ones(len(basis), dtype=bool)
    chosen = []
    for _ in range(k):
        scores = np.where(allowed, np.linalg.norm(remainder, axis=1), 0)
        if not scores.any():
            break
        p = int(scores.argmax())
        direction = remainder[p] / scores[p]
        remainder -= np.outer(remainder @ direction.conj(), direction)
        allowed[max(p - distance + 1, 0) : p + distance] = False
        chosen.append(p)
    return np.array(chosen, dtype=np.intp)


# %%
# The data: 1,797 handwritten digits of 8 x 8 pixels (scikit-learn), 64 columns, of which ten are chosen.

A = load_digits().data
chosen = {
    "default": ct.select_columns(A, 10, rng=0),
    "apart": ct.select_columns(A, 10, method=apart, rng=0),
}
figure, axes = plt.subplots(1, 2, figsize=(7.5, 4), layout="constrained")
for ax, (name, columns) in zip(axes, chosen.items(), strict=True):
    C = A[:, columns]
    error = np.linalg.norm(A - C @ np.linalg.lstsq(C, A)[0]) / np.linalg.norm(A)
    ax.imshow(A.mean(axis=0).reshape(8, 8), cmap="Greys")
    ax.plot(columns % 8, columns // 8, "o", markersize=12, color="tab:orange")
    ax.set(title=f"{name}: error {error:.3f}", xlabel="column of pixels", ylabel="row of pixels")
plt.show()

# %%
# It goes into every function that chooses, and into the comparison with the rest as a function of rank:

ranks = [5, 10, 15, 20]
rules: dict[str, str | Callable] = {"default (osinsky)": "osinsky", "apart": apart, "uniform": "uniform"}
errors = {
    name: [ct.relative_error(A, ct.cur_decomposition(A, k, method=rule, rng=0)) for k in ranks]
    for name, rule in rules.items()
}
errors["truncated SVD"] = [ct.relative_error(A, ct.randomized_svd(A, k, rng=0)) for k in ranks]
figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for name, line in errors.items():
    ax.plot(ranks, line, "o-", label=name)
ax.set(title="CUR of the digits by three rules, and the optimum", xlabel="rank", ylabel="relative error")
ax.legend()
plt.show()

# %%
# A rule that others should have is a line in ``curtensor.selection.SELECTION_RULES``; from there the tests and
# benchmarks of all rules take it up: see the guide on extending.
