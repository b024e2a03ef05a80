"""
A function at 2^30 points
=========================

In a quantised tensor train each bit of a coordinate is a mode of its own. A function with features of very different
sizes, on a grid fine enough for the smallest of them, is then known by a few thousand of its 2^30 values.
"""

import matplotlib.pyplot as plt
import numpy as np

import curtensor as ct


def signal(x):
    """A slow wave, a fast one, and a spike a hundred-thousandth wide."""
    return np.sin(7 * x) + 0.3 * np.cos(4e4 * x) * np.exp(-5 * x) + 2 / (1 + ((x - 0.3) / 1e-5) ** 2)


grid = ct.QuanticsGrid(0, 1, 30)
train = ct.tt_cross(grid.function(signal), rtol=1e-6, shape=grid.shape, rng=0)
print(f"{train.n_entries_read:,} of {2**30:,} values read; converged: {train.converged}")

# %%
# No probe is likely to fall on the spike itself. Its tail is wide, though, and what is not smooth in it leads there.

figure, axes = plt.subplots(1, 3, figsize=(11, 3.2))
for axis, width in zip(axes, (0.5, 2e-3, 1e-4), strict=False):
    x = np.linspace(max(0.3 - width, 0), 0.3 + width, 1500)
    axis.plot(x, signal(x), lw=3, alpha=0.3, label="function")
    axis.plot(x, train.at(grid.indices(x)), lw=0.8, label="train")
    axis.set_title(f"within {width:g} of 0.3")
    axis.locator_params(nbins=3)
axes[0].legend()
figure.tight_layout()

# %%
# The ranks are small at every scale: that is why so few values do.

figure, axis = plt.subplots(figsize=(6, 3))
axis.plot(range(1, 30), train.ranks, "o-")
axis.set_xlabel("bit of the coordinate, from the highest")
axis.set_ylabel("rank")
figure.tight_layout()
