"""
A tolerance that is held
========================

Often the error that can be borne is known and the rank is not. ``rtol`` asks for it, relative to the Frobenius norm,
and what comes back is measured before it is returned: at most that, or a ValueError.

The data: 1,797 handwritten digits of 64 pixels, and a photograph, both from scikit-learn.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_sample_image

import curtensor as ct

matrices = {"digits": load_digits().data, "photograph": load_sample_image("flower.jpg").mean(axis=2)}

# %%
# Each tolerance asked for, beside the true error and the number of columns that it took. The SVD's number of
# components for the same error is the least that is possible.

asked = [0.3, 0.2, 0.1, 0.05, 0.02]
figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
axes[0].plot(asked, asked, color="0.7", label="asked for")
for (name, A), color in zip(matrices.items(), ("tab:blue", "tab:orange"), strict=True):
    results = [ct.cur_decomposition(A, rtol=rtol, rng=0) for rtol in asked]
    errors = [ct.relative_error(A, cur) for cur in results]
    assert all(error <= rtol for error, rtol in zip(errors, asked, strict=True))
    squares = np.linalg.svd(A, compute_uv=False)[::-1] ** 2
    tails = np.sqrt(np.cumsum(squares)[::-1] / squares.sum())
    axes[0].plot(asked, errors, "o" if name == "digits" else "x", color=color, label=name)
    axes[1].plot(asked, [cur.rank for cur in results], "o-", color=color, label=f"CUR, {name}")
    axes[1].plot(asked, [(tails > rtol).sum() for rtol in asked], "o--", color=color, mfc="white", label=f"SVD, {name}")
axes[0].set(title="The error is at most what was asked for", ylabel="true relative error", yscale="log")
axes[1].set(title="What it takes", ylabel="rank")
for ax in axes:
    ax.set(xlabel="rtol", xscale="log")
    ax.set_xticks(asked, asked)
    ax.minorticks_off()
    ax.invert_xaxis()
    ax.legend()
axes[0].set_yticks(asked, asked)
plt.show()

# %%
# Where it cannot be had, the call says so:

try:
    ct.cur_decomposition(matrices["photograph"].astype(np.float32), rtol=1e-12, rng=0)
except ValueError as error:
    print(error)

# %%
# The same holds for ``randomized_svd``, ``interpolative_decomposition``, ``st_hosvd`` and ``tensor_cur``.

A = matrices["digits"]
svd = ct.randomized_svd(A, rtol=0.1, rng=0)
print(f"SVD: rank {len(svd.s)}, error {ct.relative_error(A, svd):.3f}")
X = A.reshape(-1, 8, 8)
tucker = ct.st_hosvd(X, rtol=0.1)
print(
    f"ST-HOSVD of 1797 x 8 x 8: ranks {tucker.core.shape}, error "
    f"{np.linalg.norm(X - tucker.to_array()) / np.linalg.norm(X):.3f}"
)
