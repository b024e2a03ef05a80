"""What results draw: with matplotlib, which is imported when something is drawn, and as HTML for notebooks."""

from html import escape
from typing import Any

import numpy as np
from scipy import sparse

from curtensor import _validation, operands

# of Okabe and Ito, told apart by the colour-blind
COLORS = ("black", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999", "#882255")
MARKERS = "osD^v<>PX*"
NAMED_TICKS = 15  # names at most below a curve
LINE = 0.17  # inches between the names of lines across a matrix
BRIGHT = 0.98  # share of a picture's cells that are not drawn as dark as can be
NAMED_LINES = 40  # names at most beside a map or a matrix
LONGEST = 28  # characters of a name in a picture
LISTED = 20  # names at most in a notebook
CELLS = 400  # of a picture of a matrix, each way


def matplotlib_loaded() -> Any:
    """Matplotlib, or the name of the extra that brings it."""
    try:
        import matplotlib.backend_bases
        import matplotlib.figure
        import matplotlib.ticker
    except ImportError as error:
        raise ImportError("a plot needs matplotlib: pip install 'curtensor[plot]'") from error
    return matplotlib


def axes(ax, size, columns=1):
    """The Axes that were given, or those of a new figure of pyplot's, which a notebook shows."""
    matplotlib_loaded()
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(1, columns, figsize=size, layout="constrained")[1]


def draw_shares(ax, curves, xlabel, names=None, rtol=None):
    """Shares explained by the first 1, 2, ... terms: ``{label: shares}``, the first curve the strongest."""
    ax = axes(ax, (6.4, 4))
    longest = max(map(len, curves.values()), default=0)
    for i, (label, shares) in reversed([*enumerate(curves.items())]):
        style = {"color": COLORS[i + 1], "marker": MARKERS[i], "linewidth": 2 if i == 0 else 1.3, "zorder": 3 - i / 10}
        style |= {"markersize": 5 if len(shares) <= 40 else 0}
        ax.plot(np.arange(1, len(shares) + 1), shares, label=label, **style)
    if rtol is not None:
        ax.axhline(1 - rtol**2, color="0.35", linestyle="--", linewidth=1.2, label=f"rtol = {rtol:g}")
    lowest = min((shares[0] for shares in curves.values() if len(shares)), default=0)
    ax.set(
        ylim=(0, 1.04) if lowest < 0.5 else (lowest - 0.1 * (1 - lowest), 1 + 0.06 * (1 - lowest) + 1e-9),
        xlabel=xlabel,
        ylabel="share of ‖A‖² explained",
    )
    ax.xaxis.set_major_locator(matplotlib_loaded().ticker.MaxNLocator(integer=True, min_n_ticks=1))
    if names is not None and 0 < longest <= NAMED_TICKS:
        texts = [f"{i + 1}  {short_name(name)}" for i, name in enumerate(names)]
        ax.set_xticks(np.arange(1, longest + 1), texts, rotation=35, ha="right", rotation_mode="anchor")
        ax.set_xlabel("")
    ax.grid(True, color="0.9", linewidth=0.6)
    handles, labels = ax.get_legend_handles_labels()
    count = len(curves)
    ax.legend(handles[:count][::-1] + handles[count:], labels[:count][::-1] + labels[count:], frameon=False)
    return ax


def draw_map(ax, coefficients, rows, columns, title):
    """Coefficients (p, k) as a map of colours, with a name for each row and column."""
    k, p = len(columns), len(rows)
    ax = axes(ax, (3.2 + 0.32 * k, 1.6 + 0.22 * p))
    largest = max(np.abs(coefficients).max(initial=0), 1e-300)
    image = ax.imshow(coefficients.real, cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto")
    ax.set_yticks(range(p), map(short_name, rows), fontsize=8)
    ax.set_xticks(range(k), map(short_name, columns), fontsize=8, rotation=40, ha="right", rotation_mode="anchor")
    ax.set_title(title, fontsize=10)
    ax.figure.colorbar(image, ax=ax, label="coefficient", shrink=min(1, 8 / (p + 1)))
    return ax


def draw_on_matrix(ax, A, shape, chosen, names):
    """Chosen rows and columns as lines across a picture of the matrix, or an empty frame, with the names of a few."""
    m, n = shape
    sizes = None if A is None else shrunk(A, (m, n))
    ax = axes(ax, (min(max(6 * n / m, 5), 9), min(max(6 * m / n, 3.5), 7)))
    if sizes is not None:
        style = {
            "cmap": "Greys",
            "vmin": 0,
            "vmax": np.quantile(sizes, BRIGHT) or sizes.max(),
            "interpolation": "nearest",
        }
        image = ax.imshow(sizes, extent=(-0.5, n - 0.5, m - 0.5, -0.5), aspect="auto", **style)
        ax.figure.colorbar(image, ax=ax, label="mean modulus")
    ax.set(xlim=(-0.5, n - 0.5), ylim=(m - 0.5, -0.5), xlabel="column", ylabel="row")
    for mode, (indices, color) in enumerate(zip(chosen, (COLORS[1], COLORS[2]), strict=True)):
        if indices is not None:
            style = {"color": color, "linewidth": 1.2 if len(indices) <= NAMED_LINES // 2 else 0.6}
            for i in indices:
                (ax.axhline, ax.axvline)[mode](i, **style)
            edge = np.full(len(indices), -0.5)
            places = (edge, indices) if mode == 0 else (indices, edge)
            ax.plot(*places, ">v"[mode], color=color, clip_on=False, markersize=5)
            if names[mode] is not None:
                label_lines(ax, mode, indices, names[mode], shape[mode], color)
    counts = [f"{len(own)} {side}" for own, side in zip(chosen, ("rows", "columns"), strict=True) if own is not None]
    ax.set_title(f"{' and '.join(counts[::-1])} chosen of a {m} x {n} matrix", fontsize=10, pad=10)
    return ax


def label_lines(ax, mode, indices, names, length, color):
    """Names of rows at the left (mode 0), or of columns below, each near its line; none where they would not fit."""
    box = ax.get_window_extent()
    inches = (box.height, box.width)[mode] / ax.figure.dpi
    gap = LINE / inches
    if len(indices) * gap > 1:
        return
    order = np.argsort(indices)
    at = (np.asarray(indices)[order] + 0.5) / length
    places = moved_apart(at, gap)
    for place, moved, i in zip(at, places, order, strict=True):
        style = {"fontsize": 8, "color": color, "annotation_clip": False, "xycoords": "axes fraction"}
        style["arrowprops"] = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0}
        if mode == 0:
            ax.annotate(short_name(names[i]), (0, 1 - place), (-0.05, 1 - moved), ha="right", va="center", **style)
        else:
            style |= {"rotation": 40, "rotation_mode": "anchor", "ha": "right", "va": "top"}
            ax.annotate(short_name(names[i]), (place, 0), (moved, -0.05), **style)
    (ax.set_yticks, ax.set_xticks)[mode]([])
    (ax.set_ylabel, ax.set_xlabel)[mode]("")


def moved_apart(places, gap):
    """Places from 0 to 1 in increasing order, moved as little as keeps them a gap apart."""
    places = np.array(places, dtype=float)
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    places[-1:] = np.minimum(places[-1:], 1)
    for i in range(len(places) - 2, -1, -1):
        places[i] = min(places[i], places[i + 1] - gap)
    return places


def draw_modes(ax, shape, chosen, dims, title):
    """The chosen slices of each mode as marks along a line."""
    order = len(shape)
    ax = axes(ax, (6.4, 0.9 + 0.6 * order))
    for mode, (length, indices) in enumerate(zip(shape, chosen, strict=True)):
        ax.plot([0, 1], [mode, mode], color="0.8", linewidth=1, zorder=1)
        ax.vlines((indices + 0.5) / length, mode - 0.28, mode + 0.28, color=COLORS[1], linewidth=1.6)
    names = dims or [f"mode {mode}" for mode in range(order)]
    texts = [f"{name}\n{len(own)} of {length}" for name, own, length in zip(names, chosen, shape, strict=True)]
    ax.set_yticks(range(order), texts)
    ax.set(xlim=(0, 1), ylim=(order - 0.5, -0.5), xlabel="place along the mode, from first to last slice")
    ax.set_title(title, fontsize=10)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return ax


def shrunk(A, shape):
    """Mean modulus of A's entries in each cell of a coarse grid; one pass."""
    operand, A = operands.find(A)
    if tuple(A.shape) != shape:
        raise _validation.complain(ValueError, "A", f"of shape {shape}", f"shape {tuple(A.shape)}")
    cells = [-(-length // -(-length // CELLS)) for length in A.shape]
    at = [np.arange(length) * count // length for length, count in zip(A.shape, cells, strict=True)]
    sums = np.zeros(cells)
    if sparse.issparse(A):
        entries = A.tocoo()
        np.add.at(sums, (at[0][entries.row], at[1][entries.col]), np.abs(entries.data))
    else:
        starts = np.searchsorted(at[1], np.arange(cells[1]))
        for rows, panel in operand.panels(A):
            np.add.at(sums, at[0][rows], np.add.reduceat(np.abs(panel), starts, axis=1))
    return sums / np.outer(*(np.bincount(own) for own in at))


def short_name(name):
    """A name that fits into a picture, cut in the middle."""
    text = str(name)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…{text[1 - LONGEST // 2 :]}"


def html_table(caption, head, rows):
    """A small table for a notebook, light or dark: cells are texts, or shares, which get a bar."""
    style = "text-align:left;padding:.2em .7em"
    heads = "".join(f'<th style="{style}">{escape(str(text))}</th>' for text in head)
    body = "".join(f"<tr>{''.join(map(html_cell, row))}</tr>" for row in rows)
    return (
        f'<table><caption style="text-align:left;white-space:nowrap;padding:.3em .7em">{escape(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    )


def html_cell(cell):
    """A cell of such a table."""
    style = "text-align:left;padding:.2em .7em"
    if not isinstance(cell, float):
        return f'<td style="{style}">{escape(str(cell))}</td>'
    width = min(max(100 * cell, 0), 100)
    bar = f"background:linear-gradient(to right,rgba(86,180,233,.45) {width:.1f}%,transparent 0);min-width:9em"
    return f'<td style="{style};{bar}">{100 * cell:.1f} %</td>'


def listed(indices, names):
    """Indices, or names where there are any, in one text: the first few."""
    texts = [str(i if names is None else names[place]) for place, i in enumerate(indices[:LISTED])]
    more = len(indices) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more else "")
