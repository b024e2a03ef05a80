"""
CUR against the SVD on text: twenty words
=========================================

Latent semantic analysis describes texts by singular vectors: mixtures of all words, with signs. CUR describes them by
words. The texts are the descriptions of SciPy's functions, taken from their docstrings, so that they are on every
machine that can run this page.
"""

import importlib
import inspect
import re
import textwrap

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

import curtensor as ct

PACKAGES = ["fft", "integrate", "interpolate", "linalg", "ndimage", "optimize", "signal", "sparse", "special", "stats"]


def description(function):
    """What a docstring says before its parameters, without the signature and the formulas."""
    text = re.split(r"\n(?:Parameters|Arguments)\n", inspect.getdoc(function) or "")[0]
    return re.sub(r"^\w+\(.*\)\n|:\w+:`.*?`|\.\. math::.*", " ", text)


texts, packages = [], []
for package in PACKAGES:
    module = importlib.import_module(f"scipy.{package}")
    functions = [getattr(module, name) for name in module.__all__]
    found = [description(function) for function in functions if callable(function)]
    texts += found
    packages += [package] * len(found)

# %%
# One row for each text, one column for each word; it stays sparse, and so do the rows and columns that CUR keeps.

vectorizer = TfidfVectorizer(
    stop_words="english", token_pattern=r"\b[a-z]{4,}\b", min_df=4, max_df=0.2, sublinear_tf=True
)
A = vectorizer.fit_transform(texts)
words = vectorizer.get_feature_names_out()
cur = ct.cur_decomposition(A, 20, rng=0)
svd = ct.randomized_svd(A, 20, rng=0)
print(f"{A.shape[0]} texts, {A.shape[1]} words; kept columns: {type(cur.C).__name__} with {cur.C.nnz} entries")
print(f"relative error: CUR {ct.relative_error(A, cur):.3f}, SVD {ct.relative_error(A, svd):.3f}")

# %%
# What the two call the texts by. Each component of the SVD mixes hundreds of words:

for component in svd.Vh[:4]:
    leading = np.argsort(-np.abs(component))[:6]
    print(", ".join(f"{component[j]:+.2f} {words[j]}" for j in leading), "...")

# %%
# CUR's components are the words themselves, and where they occur can be counted:

chosen = words[cur.col_indices]
shares = np.array([[(A[np.array(packages) == p][:, [j]] != 0).sum() for p in PACKAGES] for j in cur.col_indices])
figure, ax = plt.subplots(figsize=(7.5, 7), layout="constrained")
image = ax.imshow(shares / shares.sum(axis=1, keepdims=True), cmap="Blues", vmin=0, vmax=1, aspect="auto")
ax.set_xticks(range(len(PACKAGES)), PACKAGES, rotation=45, ha="right")
ax.set_yticks(range(len(chosen)), chosen)
ax.set(title="Where the chosen words occur", xlabel="subpackage", ylabel="word, in the order of choice")
figure.colorbar(image, label="share of the texts with that word")
plt.show()

# %%
# Many of these name a subject, others belong to a phrase that the authors of one subpackage repeat, and a few occur
# everywhere. CUR cannot know the difference; you can, since you can read what it chose, and say what must not be taken:

again = ct.select_columns(A, 20, exclude=cur.col_indices[:2], rng=0)
print(textwrap.fill(f"without {chosen[0]!r} and {chosen[1]!r}: {', '.join(words[again])}", 100))

# %%
# The matrix is far from low rank, so that both leave most of it: twenty numbers a text do not hold what it says. With
# that in mind the SVD is ahead here too, and the right choice where nobody reads the components.
