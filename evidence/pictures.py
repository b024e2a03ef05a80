"""Small multiples of methods: error against what it costs, with the Pareto fronts, whose methods are named."""

from itertools import pairwise

import matplotlib

matplotlib.use("agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

COLOURS = {"ours": "#1f6fb4", "peer": "#d9690f", "svd": "#555555"}
KEY = {"ours": "ours", "peer": "peers", "svd": "SVD and Tucker, which keep none of the data's own"}
FLOOR = 0.5
STEP = 1.03  # times as much error as the next point of a front, for both to be named
MARKS = ("o", "v")
# directions in which a name may lie from its point, and how it is then aligned
SIDES = [(1, 0, "left", "center"), (-1, 0, "right", "center"), (0, 1, "center", "bottom"), (0, -1, "center", "top")]
SIDES += [(x, y, "left" if x > 0 else "right", "bottom" if y > 0 else "top") for x in (0.7, -0.7) for y in (0.7, -0.7)]


def small_multiples(path, panels, kind, xlabel, ylabel, *, best, height, columns=2, always=()):
    """Draw a panel for each family: ``{family: {method: (x, y)}}``; `kind(method)` is a key of `COLOURS`.

    The line at 1 is that of the error over which the others are taken, `best`. Named are the methods at the fronts'
    steps, those that always are, and those too low to be drawn in their place; all others are dots.
    """
    n_rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        n_rows, columns, figsize=(10, height * n_rows + 0.7), layout="constrained", squeeze=False
    )
    drawn = []
    for ax, (family, points) in zip(axes.flat, panels.items(), strict=False):
        drawn.append((ax, draw(ax, points, kind, best, always)))
        ax.set_title(family, fontsize=10, loc="left", fontweight="bold")
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    figure.supxlabel(xlabel, fontsize=10)
    figure.supylabel(ylabel, fontsize=10)
    handles = [
        Line2D([], [], marker="o", linestyle="none", color=COLOURS[key], label=text) for key, text in KEY.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for ax, named in drawn:
        label(ax, named, lambda name: COLOURS[kind(name.split(": ")[0])])
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw(ax, points, kind, best, always=()):
    """One panel: the points, the fronts, and the line at 1; returns the points to be named.

    What is below `FLOOR` is drawn there as a triangle, with its value beside the name.
    """
    places = np.array(list(points.values()))
    keeping = np.array([place for method, place in points.items() if kind(method) != "svd"])
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.axhline(1, color=COLOURS["svd"], linewidth=1, linestyle="--")
    ax.text(0.99, 1, best, transform=ax.get_yaxis_transform(), fontsize=7.5, va="top", ha="right", color=COLOURS["svd"])
    steps = {"linewidth": 1, "drawstyle": "steps-post", "zorder": 1}
    fronts = front(keeping), front(places)
    ax.plot(*raised(fronts[0]).T, color=COLOURS["ours"], linestyle="--", **steps)
    ax.plot(*raised(fronts[1]).T, color="#999999", **steps)
    first = {tuple(place) for line in fronts for place in steps_of(line)}
    named = {}
    for method, place in points.items():
        below, matters = place[1] < FLOOR, tuple(place) in first or method in always or place[1] < FLOOR
        at = tuple(raised(np.array([place]))[0])
        if matters:
            named[f"{method}: {place[1]:.2g}" if below else method] = at
        style = {"markersize": 6 if matters else 4, "alpha": 1 if matters else 0.55, "color": COLOURS[kind(method)]}
        ax.plot(*at, "v" if below else "o", markeredgewidth=0, **style)
    ax.set_xlim(0.6 * places[:, 0].min(), 1.8 * places[:, 0].max())
    heights = raised(places)[:, 1]
    low, high = min(heights.min(), 1), max(heights.max(), 1.5)
    ax.set_ylim(low * (low / high) ** 0.12, high * (high / low) ** 0.1)
    ax.tick_params(labelsize=8, which="both")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
    ax.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if decades(ax.get_ylim()) < 1 else "")
    return named


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


def steps_of(line):
    """Those points of a front that are visibly lower than the one before."""
    kept = [line[0]]
    for place in line[1:]:
        if place[1] < kept[-1][1] / STEP:
            kept.append(place)
    return kept


def label(ax, named, colour, size=7.5):
    """The name of each point beside it, where it lies on no other name and on no point, inside of the axes.

    From near to far; a name that finds no place near its point is tied to it by a line.
    """
    inside = ax.get_window_extent()
    dots = ax.transData.transform([line.get_xydata()[0] for line in ax.lines if line.get_marker() in MARKS])
    taken = [Bbox.from_extents(x - 3, y - 3, x + 3, y + 3) for x, y in dots]
    taken += [text.get_window_extent() for text in ax.texts]
    taken += [strip for line in ax.lines if line.get_drawstyle() == "steps-post" for strip in strips(ax, line)]
    for name, place in sorted(named.items(), key=lambda item: (item[1][1], item[1][0])):
        text = ax.annotate(name, place, (0, 0), textcoords="offset points", fontsize=size, color=colour(name), zorder=4)
        text.set(in_layout=False, path_effects=[withStroke(linewidth=2, foreground="white")])
        tried = []
        for far in (6, 14, 24, 36, 50):
            for x, y, ha, va in SIDES:
                text.set(ha=ha, va=va, position=(far * x, far * y))
                box = text.get_window_extent()
                lost = sum(area(box, other) for other in taken) + 10 * (box.width * box.height - area(box, inside))
                tried.append((round(lost), far, (x, y, ha, va), box))
        lost, far, (x, y, ha, va), box = min(tried, key=lambda found: found[:2])
        text.set(ha=ha, va=va, position=(far * x, far * y))
        taken.append(box)
        if far > 14:
            line = {"arrowstyle": "-", "linewidth": 0.5, "color": colour(name), "shrinkA": 0, "shrinkB": 2}
            ax.annotate("", place, (far * x, far * y), textcoords="offset points", arrowprops=line).set_in_layout(False)


def strips(ax, line):
    """Narrow boxes around a line of steps."""
    corners = ax.transData.transform(np.array(line.get_data(orig=False)).T)
    for (left, high), (right, low) in pairwise(corners):
        yield Bbox.from_extents(left, high - 2, right, high + 2)
        yield Bbox.from_extents(right - 2, min(low, high), right + 2, max(low, high))


def area(box, other):
    """Of what two boxes have in common."""
    common = Bbox.intersection(box, other)
    return 0 if common is None else common.width * common.height
