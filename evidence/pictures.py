"""Small multiples of methods: error against what it costs, with the Pareto front, every point labelled."""

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt

COLOURS = {"ours": "#1f6fb4", "peer": "#d9690f", "svd": "#555555"}
FLOOR = 0.5


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
    """One panel: the points with their labels to the right, the fronts, and the line at 1.

    What is below `FLOOR` is drawn there as a triangle, with its value beside the name.
    """
    places = np.array(list(points.values()))
    keeping = np.array([place for method, place in points.items() if kind(method) != "svd"])
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.axhline(1, color=COLOURS["svd"], linewidth=1, linestyle="--")
    ax.text(0.01, 0.99, best, transform=ax.get_yaxis_transform(), fontsize=7, va="top", color=COLOURS["svd"])
    steps = {"linewidth": 1, "drawstyle": "steps-post", "zorder": 1}
    ax.plot(*raised(front(keeping)).T, color=COLOURS["ours"], linestyle="--", **steps)
    ax.plot(*raised(front(places)).T, color="#999999", **steps)
    shown = {}
    for method, place in points.items():
        below = place[1] < FLOOR
        name = f"{method}: {place[1]:.2g}" if below else method
        shown[name] = tuple(raised(np.array([place]))[0])
        ax.plot(*shown[name], "v" if below else "o", markersize=5 if below else 4, color=COLOURS[kind(method)])
    ax.set_xlim(0.7 * places[:, 0].min(), 1.4 * places[:, 0].max())
    heights = raised(places)[:, 1]
    low, high = min(heights.min(), 1), max(heights.max(), 1.5)
    ax.set_ylim(low * (low / high) ** 0.09, high * (high / low) ** 0.06)
    ax.tick_params(labelsize=7, which="both")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
    ax.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if decades(ax.get_ylim()) < 1 else "")
    label(ax, shown, lambda name: kind(name.split(": ")[0]))


def raised(places):
    """The places, none of them below the floor."""
    return np.maximum(places, [0, FLOOR])


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
