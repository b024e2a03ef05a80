"""
A block of a boundary element matrix
====================================

Charges on one surface act on another: 20,000 panels on each, and a matrix of 400 million potentials, each of which is
a formula. Between surfaces that do not touch, such a block has a low rank, and some of its rows and columns are enough
for all of it. Codes for boundary elements find them by adaptive cross approximation; here with an error that is
checked on entries which no choice has seen.
"""

import matplotlib.pyplot as plt
import numpy as np

import curtensor as ct

n = 20_000


def sphere(center):
    """Midpoints of panels, spread evenly over a sphere of radius 1."""
    height = 1 - (2 * np.arange(n) + 1) / n
    angle = np.pi * (1 + 5**0.5) * np.arange(n)
    return np.array([np.sqrt(1 - height**2) * np.cos(angle), np.sqrt(1 - height**2) * np.sin(angle), height]).T + center


targets, sources = sphere([0, 0, 0]), sphere([2.5, 0, 0])


def potential(i, j):
    """At the middle of panel i, of a unit charge on panel j: a function of arrays of indices."""
    return 1 / np.sqrt(sum((targets[i, axis] - sources[j, axis]) ** 2 for axis in range(3)))


# %%
# A tolerance in place of a rank: the error is held, or the call says that it could not.

block = ct.cur_decomposition(potential, rtol=1e-6, shape=(n, n), rng=0)
print(f"rank {block.rank}, error at most {block.error_estimate:.1e}, as fresh entries show it")
print(
    f"{block.n_entries_read:,} entries read, {block.n_entries_read / n**2:.2%} of all; {block.nbytes / 2**20:.0f} MiB"
)

# %%
# The potentials of some charges are a product with the factors. A few of them from the whole rows:

charges = np.random.default_rng(0).random(n)
some = np.arange(0, n, 200)
exact = potential(some[:, None], np.arange(n)) @ charges
print(f"relative error {np.linalg.norm((block @ charges)[some] - exact) / np.linalg.norm(exact):.1e}")

# %%
# The panels chosen lie where the surfaces come close to each other.

figure = plt.figure(figsize=(9, 4), layout="constrained")
axes = figure.add_subplot(projection="3d")
for points, chosen in ((targets, block.row_indices), (sources, block.col_indices)):
    axes.scatter(*points[::20].T, s=1, color="0.75")
    axes.scatter(*points[chosen].T, s=14, color="#D55E00")
axes.set(aspect="equal", title=f"{block.rank} panels of {n:,} on each sphere")
plt.show()
