"""The pictures of the front page: ``python -m evidence.front`` writes docs/results/front-table.png and front-disk.png.

The first: what six measurements say of thirty, from the shipped table. The second: what it costs to decompose a
matrix on disk, from the table "peers" of docs/large.md, which ``python -m evidence.blocks --write`` measures.
"""

import re

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

import curtensor as ct
from curtensor.files import example_matrix
from curtensor.plots import COLORS
from evidence import pages

PICTURES = [pages.ROOT / "docs" / "results" / f"front-{name}.png" for name in ("table", "disk")]
METHODS = {
    "CUR, intersection": "CUR",
    "CUR, projection": "CUR, best core",
    "randomized_svd, single_pass": "SVD, one pass",
    "randomized_svd, block_krylov": "SVD",
}
PARTS = {
    "times the file is read": r"read (\d+) times",
    "CPU seconds": r"([\d.]+) s CPU",
    "error / least possible": r"^([\d.]+) of",
}


def measurements(ax):
    """How much of each measurement follows from six of them."""
    A, _, names = example_matrix()
    explanation = ct.cur_decomposition(A, 6, rng=0).explain(A)
    rest = np.setdiff1d(np.argsort(explanation.each, kind="stable")[::-1], explanation.chosen, assume_unique=True)
    order = np.append(explanation.chosen, rest)
    colors = [COLORS[2]] * len(explanation.chosen) + [COLORS[1]] * len(rest)
    bars = ax.barh(names[order], 100 * explanation.each[order], color=colors, height=0.75)
    ax.bar_label(bars, [""] * 6 + [f"{100 * share:.0f}" for share in explanation.each[rest]], padding=2, fontsize=8)
    ax.invert_yaxis()
    ax.margins(y=0.01)
    for label, color in zip(ax.get_yticklabels(), colors, strict=True):
        label.set_color(color)
    ax.set_xlim(0, 112)
    ax.set_xlabel("% explained")
    ax.set_title("Six of 30 measurements of tumours (orange),\nand how much of each other follows", loc="left")


def figures():
    """What decomposing a matrix on disk takes by each method: ``{part: [numbers]}``."""
    table = pages.read_table(pages.ROOT / "docs" / "large.md", "peers")
    texts = {row[0]: row[2] for row in table}
    return {part: [float(re.search(form, texts[name])[1]) for name in METHODS] for part, form in PARTS.items()}


def on_disk(axes):
    """Reads, time and error of CUR and SVD."""
    for ax, (part, numbers) in zip(axes, figures().items(), strict=True):
        bars = ax.barh(list(METHODS.values()), numbers, color=[COLORS[2], COLORS[2], "0.55", "0.55"], height=0.7)
        ax.bar_label(bars, [f"{number:g}" for number in numbers], padding=3)
        ax.invert_yaxis()
        ax.set(xlim=(0, 1.2 * max(numbers)), xticks=[])
        ax.set_xlabel(part)


def draw():
    """Both figures."""
    style = {"font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.spines.top": False}
    with plt.rc_context(style | {"axes.spines.right": False}):
        left, right = (plt.figure(figsize=(width, 6.2), layout="constrained") for width in (5.8, 4.7))
        measurements(left.subplots())
        title = "A matrix on disk (80,000 x 1,000, rank 50):\nwhat it costs to keep real rows and columns"
        right.suptitle(title, x=0.03, ha="left", fontsize=11, fontweight="bold")
        on_disk(right.subplots(3, 1))
        return left, right


if __name__ == "__main__":
    for path, figure in zip(PICTURES, draw(), strict=True):
        figure.savefig(path, dpi=130)
