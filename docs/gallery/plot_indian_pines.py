"""
A hyperspectral image by a few of its bands
===========================================

An airborne spectrometer sees each pixel in 200 bands. A camera that is built for one purpose could measure ten of
them: which? The image is *Indian Pines*, 145 x 145 pixels, shipped with TensorLy.
"""

import matplotlib.pyplot as plt
import numpy as np
from tensorly.datasets import load_indian_pines

import curtensor as ct

X = np.array(load_indian_pines().tensor, dtype=float)
X.shape

# %%
# Tensor CUR with the bands and as few rows and columns of pixels as the ranks allow. Its core is data: those pixels,
# in those bands.

ranks = (30, 30, 10)
cur = ct.tensor_cur(X, ranks, n_samples=ranks, rng=0)
rows, columns, bands = cur.indices
assert (cur.core == X[np.ix_(rows, columns, bands)]).all()
print("bands:", *sorted(bands.tolist()))
print(f"numbers of the core: {cur.core.size:,} of {X.size:,}")

# %%
# Where the bands lie. None is beyond band 100, where pixels hardly differ: the error that is kept small is that of all
# entries together, and those there are small. (Divide each band by its spread first if all bands are to count alike.)

figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
spectrum, spread = X.mean(axis=(0, 1)), X.std(axis=(0, 1))
ax.fill_between(range(200), spectrum - spread, spectrum + spread, alpha=0.25, label="one standard deviation")
ax.plot(spectrum, label="mean of all pixels")
ax.vlines(bands, 0, 1.05 * (spectrum + spread).max(), color="tab:orange", linewidth=1.2, label="chosen bands")
ax.set(title="Ten of 200 bands", xlabel="band", ylabel="radiance (instrument units)", ylim=(0, None))
ax.legend(loc="upper right")
plt.show()

# %%
# A band that was not chosen, out of the ten that were, and the chosen lines of pixels on it:

band = 20 if 20 not in bands else 21
approximation = cur.to_array()
figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
limits = {"vmin": X[:, :, band].min(), "vmax": X[:, :, band].max(), "cmap": "viridis"}
axes[0].imshow(X[:, :, band], **limits)
axes[0].vlines(columns, 0, 144, color="white", linewidth=0.5)
axes[0].hlines(rows, 0, 144, color="white", linewidth=0.5)
image = axes[1].imshow(approximation[:, :, band], **limits)
figure.colorbar(image, ax=axes[:2], label="radiance", shrink=0.8)
error = axes[2].imshow(np.abs(X - approximation)[:, :, band], cmap="magma")
figure.colorbar(error, ax=axes[2], label="radiance", shrink=0.8)
for ax, title in zip(axes, (f"band {band}, chosen lines", "out of the chosen", "absolute error"), strict=True):
    ax.set(title=title, xlabel="column")
axes[0].set_ylabel("row")
plt.show()

# %%
# Errors beside ST-HOSVD, which keeps mixtures of all. Four times as many slices as the ranks, the default, bring tensor
# CUR's error down, and it then holds more numbers; cut to the ranks it holds as few as ST-HOSVD, and is behind again.

default = ct.tensor_cur(X, ranks, rng=0)
results = {
    "ST-HOSVD": ct.st_hosvd(X, ranks).to_array(),
    "tensor CUR, as many slices as ranks": approximation,
    "tensor CUR, default": default.to_array(),
    "tensor CUR, default, cut to the ranks": ct.tucker_to_tensor(*default.to_tucker(ranks)),
}
for name, Y in results.items():
    print(f"{name:38} {np.linalg.norm(X - Y) / np.linalg.norm(X):.4f}")
