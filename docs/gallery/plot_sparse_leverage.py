"""
Leverage scores of a sparse matrix
==================================

The rank-k leverage score of a row says how much of it nobody else can stand for, within the k leading directions:
1 where a direction exists for this row alone, near 0 where many rows share one. It is computed here for each file
of Python's standard library by the names that the file uses.
"""

import re
import sysconfig
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

import curtensor as ct

library = Path(sysconfig.get_path("stdlib"))
files = sorted(
    path.relative_to(library)
    for path in library.rglob("*.py")
    if not re.search(r"site-packages|dist-packages|/tests?/|_test", str(path))
)
vectorizer = CountVectorizer(token_pattern=r"\b[A-Za-z_]\w{2,}\b", lowercase=False, min_df=2)
A = vectorizer.fit_transform((library / path).read_text(errors="replace") for path in files).astype(float)
A.data = np.log1p(A.data)
print(f"{A.shape[0]} files x {A.shape[1]} names, {A.nnz / np.prod(A.shape):.1%} of it filled")
print(f"sparse {12 * A.nnz / 1e6:.0f} MB, as a dense array {8 * np.prod(A.shape) / 1e6:.0f} MB")

# %%
# The exact scores need a singular value decomposition of the dense array. The sketch multiplies the sparse matrix by
# thin ones, eight times in all, and never makes it dense.

k = 20
scores, seconds = {}, {}
for method in ("exact", "sketch"):
    start = time.process_time()
    scores[method] = ct.leverage_scores(A, k, method=method, rng=0)
    seconds[method] = time.process_time() - start
print(f"largest difference {np.abs(scores['exact'] - scores['sketch']).max():.3f} of scores from 0 to 1")
print(f"processor time of exact over sketch: {seconds['exact'] / seconds['sketch']:.0f}")

# %%
# Large rows have higher scores, but size is not all: some stand far above others of their norm.

norms = np.sqrt(A.power(2).sum(axis=1).A1)
high = np.argsort(-scores["sketch"])[:6]
figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", width_ratios=[3, 2])
axes[0].plot(norms, scores["sketch"], ".", alpha=0.5)
for i in high:
    axes[0].annotate(f"  {files[i]}", (norms[i], scores["sketch"][i]), fontsize=8, va="center")
axes[0].set(title="Which files are unlike the others", xlabel="norm of the row", ylabel=f"leverage score, k = {k}")
axes[0].set_xlim(0, 1.4 * norms.max())
axes[1].plot([0, 1], [0, 1], color="0.7")
axes[1].plot(scores["exact"], scores["sketch"], ".")
axes[1].set(title="Sketch against exact", xlabel="exact score", ylabel="score by the sketch", aspect="equal")
plt.show()

# %%
# The scores sum to k. Divided by it they are probabilities of sampling, which is what leverage scores were invented
# for; the default rule of CUR does better than such samples at the same number of rows:

for method in ("osinsky", "leverage", "uniform"):
    cur = ct.cur_decomposition(A, k, method=method, rng=0)
    print(f"{method:9} {ct.relative_error(A, cur):.3f}")
print(f"{'SVD':9} {ct.relative_error(A, ct.randomized_svd(A, k, rng=0)):.3f}")
