"""
CUR against the SVD on a photograph
===================================

A photograph is the fairest loss that CUR can show: nobody needs its own rows and columns, so that only the error
counts, and there the truncated SVD is the optimum. How much is lost, and what do the chosen lines look like?

The picture is ``china.jpg``, a photograph shipped with scikit-learn.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

import curtensor as ct

photograph = load_sample_image("china.jpg").mean(axis=2) / 255
photograph.shape

# %%
# Sixty columns and sixty rows of pixels, drawn where they lie: they crowd where much changes, at the tower and the
# trees, and are few in the sky.

rank = 60
cur = ct.cur_decomposition(photograph, rank, rng=0)
svd = ct.randomized_svd(photograph, rank, rng=0)

figure, axes = plt.subplots(2, 2, figsize=(9, 6.6), layout="constrained")
pictures = {
    "photograph, 427 x 640": photograph,
    "the chosen rows and columns": photograph,
    f"CUR, error {ct.relative_error(photograph, cur):.3f}": cur.to_array(),
    f"SVD, error {ct.relative_error(photograph, svd):.3f}": svd.to_array(),
}
for ax, (title, picture) in zip(axes.flat, pictures.items(), strict=True):
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1)
    ax.set(title=title, xlabel="column", ylabel="row")
axes[0, 1].vlines(cur.col_indices, 0, len(photograph) - 1, color="tab:orange", linewidth=0.7)
axes[0, 1].hlines(cur.row_indices, 0, photograph.shape[1] - 1, color="tab:blue", linewidth=0.7)
plt.show()

# %%
# The SVD is ahead at every rank, and the more so the higher the rank. Random rows and columns, the control, are farther
# behind.

comparison = ct.compare(photograph, [10, 20, 40, 80, 160], methods=["cur", "uniform"], rng=0)
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for method, label in {"uniform": "CUR, random lines", "cur": "CUR", "svd": "truncated SVD"}.items():
    rows = [row for row in comparison.rows if row.method == method]
    ax.plot([row.rank for row in rows], [row.error for row in rows], "o-", label=label)
ax.set(title="The SVD is the optimum; CUR pays for its real rows and columns", xlabel="rank", ylabel="relative error")
ax.legend()
plt.show()

# %%
# The ratio of CUR's error to the optimum at each rank:

errors = {method: [row.error for row in comparison.rows if row.method == method] for method in ("cur", "svd")}
np.divide(errors["cur"], errors["svd"]).round(2)
