"""
A tensor by name: patients, antigens and receptors
==================================================

COVID-19 serology, shipped with TensorLy: 438 blood samples x 6 antigens of the virus x 11 ways in which antibodies
act on them. Tensor CUR keeps a sub-tensor: some samples, some antigens, some receptors, each by name, and says how all
the others follow from them.
"""

import matplotlib.pyplot as plt
import numpy as np
from tensorly.datasets import load_covid19_serology

import curtensor as ct

data = load_covid19_serology()
X, (groups, antigens, receptors) = np.array(data.tensor), data.ticks
X.shape

# %%
# Ranks are for each mode: ten samples, four antigens, five receptors; nothing but these is kept of the data.

cur = ct.tensor_cur(X, (10, 4, 5), n_samples=(10, 4, 5), rng=0)
assert (cur.core == X[np.ix_(*cur.indices)]).all()
print("samples:  ", ", ".join(f"{i} ({groups[i]})" for i in cur.indices[0]))
print("antigens: ", ", ".join(np.array(antigens)[cur.indices[1]]))
print("receptors:", ", ".join(np.array(receptors)[cur.indices[2]]))

# %%
# Beside it, ST-HOSVD of the same ranks, the baseline of every tensor CUR: less error, and a core of mixtures.

approximation, best = cur.to_array(), ct.st_hosvd(X, (10, 4, 5)).to_array()
for name, Y in {"CUR": approximation, "ST-HOSVD": best}.items():
    print(f"relative error of {name}: {np.linalg.norm(X - Y) / np.linalg.norm(X):.3f}")

# %%
# The factor of the receptors: each receptor as a combination of the five that were chosen.

factor = cur.factors[2]
limit = np.abs(factor).max()
figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained", width_ratios=[3, 2])
names = np.array(receptors)[cur.indices[2]]
image = axes[0].imshow(factor, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
axes[0].set_xticks(range(len(names)), names, rotation=45, ha="right")
axes[0].set_yticks(range(len(receptors)), receptors)
axes[0].set(title="Every receptor out of five", xlabel="chosen receptor", ylabel="receptor")
figure.colorbar(image, ax=axes[0], label="coefficient")

left = np.linalg.norm(X - approximation, axis=(0, 1)) / np.linalg.norm(X, axis=(0, 1))
axes[1].barh(receptors, left, color=np.where(np.isin(range(len(receptors)), cur.indices[2]), "tab:orange", "tab:blue"))
axes[1].invert_yaxis()
axes[1].set(title="What is left of each (orange: chosen)", xlabel="relative error")
axes[1].tick_params(labelleft=False)
plt.show()

# %%
# A chosen receptor has an error, too: of it only the chosen samples and antigens are kept.
