"""
Which measurements say most about all, by name
==============================================

Thirty measurements were taken of the cell nuclei of 569 tumours (the matrix shipped with the package). They repeat one
another: radius, perimeter and area are nearly one thing. If only a few could be taken, which? (The columns have mean 0
and standard deviation 1. Without that, the one in the smallest units would count most.)
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import curtensor as ct
from curtensor.files import example_matrix

A, tumours, measurements = example_matrix()
table = pd.DataFrame(A, columns=measurements)
columns = ct.select_columns(table, 6, rng=0)
explanation = ct.explain(table, columns, svd=True, rng=0)
explanation.choices[["name", "adds", "explained", "svd"]].round(3)

# %%
# The share of all that the six explain, one after the other, beside the SVD's. Six singular vectors explain more, as
# they must; but each of them mixes all thirty measurements.

explanation.plot()
plt.show()

# %%
# From these six, by least squares, come all the others: how well, and with which coefficients, best explained first.

explanation.plot("others")
plt.show()

# %%
# The tumours that fit worst are worth a second look: outliers, or errors of measurement.

explanation.outliers.head().round(3)

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
