"""
Which measurements say most about all, by name
==============================================

Thirty measurements were taken of the cell nuclei of 569 tumours (the matrix shipped with the package). They repeat one
another: radius, perimeter and area are nearly one thing. If only a few could be taken, which? (The columns have mean 0
and standard deviation 1. Without that, the one in the smallest units would count most.)
"""

import matplotlib.pyplot as plt
import numpy as np

import curtensor as ct
from curtensor.files import example_matrix

A, tumours, measurements = example_matrix()
columns = ct.select_columns(A, 6, rng=0)
for name in measurements[columns]:
    print(name)

# %%
# From these six, by least squares, come all the others. How well, one by one:

interpolation = ct.interpolative_decomposition(A, 6, rng=0)
left = np.linalg.norm(A - A[:, interpolation.indices] @ interpolation.coefficients, axis=0) / np.linalg.norm(A, axis=0)
order = np.argsort(left)
chosen = np.isin(order, interpolation.indices)
figure, ax = plt.subplots(figsize=(7.5, 6.5), layout="constrained")
ax.barh(measurements[order], 1 - left[order] ** 2, color=np.where(chosen, "tab:orange", "tab:blue"))
ax.invert_yaxis()
ax.set(
    title="Six measurements (orange) and what they explain of the others",
    xlabel="share explained, 1 - residual² / norm²",
    ylabel="measurement",
)
plt.show()

# %%
# Some measurements are dear and others come for free. Suppose that the mean radius is taken anyway, and that the
# twenty "worst" and "error" columns cost three times as much as a mean:

dear = np.array([not name.startswith("mean") for name in measurements])
cheap = ct.select_columns(
    A, 6, include=[int(np.flatnonzero(measurements == "mean radius")[0])], weights=np.where(dear, 1 / 3, 1), rng=0
)
for name in measurements[cheap]:
    print(name)


# %%
# How much error that costs, beside the SVD, for which every component mixes all thirty, and beside random columns:


def error(columns):
    """Relative error of the best fit from some columns."""
    C = A[:, columns]
    return np.linalg.norm(A - C @ np.linalg.lstsq(C, A)[0]) / np.linalg.norm(A)


random = [error(ct.select_columns(A, 6, method="uniform", rng=seed)) for seed in range(20)]
errors = {
    "six of the SVD": ct.relative_error(A, ct.randomized_svd(A, 6, rng=0)),
    "six chosen": error(columns),
    "six chosen, costs and radius given": error(cheap),
    "six at random (mean of 20)": np.mean(random),
}
figure, ax = plt.subplots(figsize=(7.5, 2.6), layout="constrained")
bars = ax.barh(list(errors), list(errors.values()), color="tab:blue")
ax.bar_label(bars, fmt="%.3f", padding=3)
ax.invert_yaxis()
ax.set(title="What names cost", xlabel="relative error (Frobenius norm)", xlim=(0, 1.15 * max(errors.values())))
plt.show()
