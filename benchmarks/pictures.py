"""Small multiples of methods: error against what it costs, with the Pareto front, every point labelled."""

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

COLOURS = {"ours": "#1f6fb4", "peer": "#d9690f", "svd": "#555555"}


def small_multiples(path, panels, kind, xlabel, ylabel, *, best, height, columns=2):
    """Draw a panel for each family: ``{family: {method: (x, y)}}``; `kind(method)` is a key of `COLOURS`.

    The line at 1 is that of the error over which the others are taken, `best`.
    """
    n_rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        n_rows, columns, figsize=(10, height * n_rows + 0.4), layout="constrained", squeeze=False
    )
    for ax, (family, points) in zip(axes.flat, panels.items(), strict=False):
        draw(ax, points, kind, best)
        ax.set_title(family, fontsize=10, loc="left", fontweight="bold")
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw(ax, points, kind, best):
    """One panel: the points with their labels to the right, the front, and the line at 1."""
    places = np.array(list(points.values()))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.axhline(1, color=COLOURS["svd"], linewidth=1, linestyle="--")
    ax.text(0.99, 1, best, transform=ax.get_yaxis_transform(), fontsize=7, va="bottom", ha="right")
    kept = np.array([place for method, place in points.items() if kind(method) != "svd"])
    ax.plot(*front(kept).T, color=COLOURS["ours"], linewidth=1, linestyle="--", drawstyle="steps-post", zorder=1)
    ax.plot(*front(places).T, color="#999999", linewidth=1, drawstyle="steps-post", zorder=1)
    for method, place in points.items():
        ax.plot(*place, "o", markersize=4, color=COLOURS[kind(method)])
    ax.set_xlim(0.7 * places[:, 0].min(), 1.4 * places[:, 0].max())
    low, high = min(places[:, 1].min(), 1), max(places[:, 1].max(), 1.5)
    ax.set_ylim(low * (low / high) ** 0.06, high * (high / low) ** 0.06)
    ax.tick_params(labelsize=7, which="both")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(lambda value, _: f"{value:g}" if decades(ax.get_ylim()) < 1.5 else "")
    ax.xaxis.set_minor_formatter("")
    label(ax, points, kind)


def decades(limits):
    return np.log10(limits[1] / limits[0])


def front(places):
    """The points that no other point beats in both coordinates, from the left to the right."""
    kept = []
    for x, y in places[np.lexsort(places.T[::-1])]:
        if not kept or y < kept[-1][1]:
            kept.append((x, y))
    return np.array(kept)


def label(ax, points, kind, size=6.5):
    """Names to the right of the panel, in the order of their points from bottom to top, each tied to its point."""
    to_axes = ax.transData + ax.transAxes.inverted()
    heights = {method: to_axes.transform(place)[1] for method, place in points.items()}
    order = sorted(points, key=lambda method: (heights[method], points[method][0]))
    for method, height in zip(order, spread([heights[method] for method in order]), strict=True):
        colour = COLOURS[kind(method)]
        ax.annotate(
            method,
            points[method],
            (1.06, height),
            textcoords="axes fraction",
            fontsize=size,
            va="center",
            color=colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "linewidth": 0.3, "color": colour, "relpos": (0, 0.5), "shrinkB": 2},
        )


def spread(heights):
    """Heights from 0 to 1 in increasing order, moved as little as keeps them apart."""
    gap = 1 / max(len(heights) - 1, 12)
    heights = np.array(heights)
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    heights[-1] = min(heights[-1], 1)
    for i in range(len(heights) - 2, -1, -1):
        heights[i] = min(heights[i], heights[i + 1] - gap)
    return heights
