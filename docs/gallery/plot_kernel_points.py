"""
A kernel of 100,000 points in a pipeline
========================================

The kernel matrix of 100,000 points has 10 billion entries. ``NystroemCUR`` puts features in its place whose inner
products are close to it, by the points that it chooses as landmarks: 300 columns of the matrix are computed, and its
diagonal. scikit-learn's ``Nystroem`` draws the landmarks uniformly, so that what is rare has none.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline

from curtensor import NystroemCUR

# %%
# Ninety-nine of a hundred points lie in a cloud, of one class. The others lie on two spirals around it, one of the same
# class, one of the other.

rng = np.random.default_rng(0)
n, rare = 100_000, 1_000
turn = rng.uniform(0, 3 * np.pi, rare)
arm = rng.integers(0, 2, rare)
angle = turn + np.pi * arm
spirals = (3 + turn)[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]) + 0.1 * rng.standard_normal((rare, 2))
X = np.concatenate([0.5 * rng.standard_normal((n - rare, 2)), spirals])
y = np.concatenate([np.zeros(n - rare, dtype=int), arm])
train = rng.random(n) < 0.5

# %%
# The same pipeline with landmarks of both kinds:

numbers = [30, 100, 300]
scores: dict[str, list[float]] = {"chosen": [], "uniform": []}
test = np.flatnonzero(~train & (np.arange(n) >= n - rare))  # points of the spirals that were not trained on
for rank in numbers:
    for name, features in {
        "chosen": NystroemCUR(rank, gamma=0.5, random_state=0),
        "uniform": Nystroem(n_components=rank, gamma=0.5, random_state=0),
    }.items():
        model = make_pipeline(features, RidgeClassifier(1e-3)).fit(X[train], y[train])
        scores[name].append(model.score(X[test], y[test]))
    print(f"{rank:3} landmarks: chosen {scores['chosen'][-1]:.2f}, uniform {scores['uniform'][-1]:.2f}")

# %%
# How much of the kernel is left is known exactly: the trace of what is left, over the whole trace. A share of it may be
# asked for in place of a number of landmarks.

features = NystroemCUR(trace_rtol=1e-3, gamma=0.5, random_state=0).fit(X)
print(f"{len(features.row_indices_)} landmarks leave {features.trace_error_:.1e} of the trace")
print(features.get_feature_names_out()[:3])

# %%
# The chosen landmarks follow the spirals.

uniform = Nystroem(n_components=len(features.row_indices_), gamma=0.5, random_state=0).fit(X)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
for axis, (title, landmarks) in zip(
    axes, {"chosen": features.components_, "uniform": uniform.components_}.items(), strict=False
):
    axis.scatter(*X[-3 * rare :].T, s=1, color="0.75")
    axis.scatter(*landmarks.T, s=8, color="#D55E00")
    axis.set(title=f"{len(landmarks)} landmarks, {title}", aspect="equal")
for name, values in scores.items():
    axes[2].plot(numbers, values, "o-", label=name)
axes[2].set(title="Points of the spirals", xlabel="landmarks", ylabel="share classified rightly")
axes[2].legend()
plt.show()
