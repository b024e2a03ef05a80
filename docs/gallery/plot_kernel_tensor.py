"""
A kernel tensor too large to store
==================================

The electrostatic potential of charges between points of three lines has an entry for each triple of points. With
10,000 points on each line that is a tensor of 8 TB. Where a formula gives any entry, tensor CUR needs only some of
them: a function in place of the array, and its ``shape``.
"""

import matplotlib.pyplot as plt
import numpy as np

import curtensor as ct

n = 10_000


def potential(i, j, k):
    """Entries of the tensor at arrays of indices: 1 / distance, the points being 1, 2, 3, ... away."""
    return 1 / np.sqrt((i + 1.0) ** 2 + (j + 1.0) ** 2 + (k + 1.0) ** 2)


# %%
# The cross method reads fibres through the slices that it has chosen so far, chooses better slices by them, and stops
# when the choice settles.

errors, entries, ranks = [], [], [3, 6, 9, 12]
for rank in ranks:
    cur = ct.tensor_cur(potential, rank, shape=(n, n, n), rng=0)
    errors.append(cur.error_estimate)
    entries.append(cur.n_entries_read)
    share = cur.n_entries_read / n**3
    print(f"rank {rank:2}: error {cur.error_estimate:.0e}, {cur.n_entries_read:,} entries read, {share:.0e} of all")

# %%
# The estimate is the largest relative error over some kinds of random entries. On entries that nothing has seen yet:

rng = np.random.default_rng(1)
indices = [np.floor(n ** rng.random(5_000)).astype(int) - 1 for _ in range(3)]  # as many small as large ones
rows = [factor[i] for factor, i in zip(cur.factors, indices, strict=True)]
values = np.einsum("abc,za,zb,zc->z", cur.core, *rows, optimize=True)
exact = potential(*indices)
print(f"relative error {np.linalg.norm(values - exact) / np.linalg.norm(exact):.0e}")

# %%
# The chosen points crowd where the potential changes, near the origin:

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
axes[0].plot(ranks, errors, "o-")
axes[0].set(title="Error estimate", xlabel="rank of each mode", ylabel="relative error", yscale="log")
for mode, chosen in enumerate(cur.indices):
    axes[1].plot(chosen + 1, np.full(len(chosen), mode), "|", markersize=18)
axes[1].set(title=f"Chosen points, rank {rank}", xlabel="distance from the origin", xscale="log", ylim=(-0.5, 2.5))
axes[1].set_yticks(range(3), ["line 0", "line 1", "line 2"])
plt.show()

# %%
# No estimate from some of the entries can be a proof: an entry unlike all others, which no fibre happens to meet,
# stays unseen. Where the tensor is stored, ``tensor_cur`` reads it once and checks them all.
